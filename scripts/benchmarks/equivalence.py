"""Case `equivalence`: what the fast engine's features are worth, against eager fp32."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from dogbreeds.data.layout import SPLITS
from dogbreeds.features.engines import available
from dogbreeds.features.engines.reference import resolve_precision
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.model.exact import ExactPath
from dogbreeds.model.head import FeatureNormalisation
from dogbreeds.schema import FeaturesConfig
from dogbreeds.training.datamodule import BreedDataModule
from dogbreeds.training.features import Features


def run(settings: BenchSettings) -> Section:
    """Compares features, and exact probes trained on them, over all photos."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ways = {
        "torch fp32": ("torch", "fp32"),
        "torch bf16": ("torch", "bf16"),
        f"{available(device)[0]} fp32": (available(device)[0], "fp32"),
        f"{available(device)[0]} auto": (available(device)[0], resolve_precision("auto", device)),
    }
    features = {name: _features(settings, device, *way) for name, way in ways.items()}
    probes = {name: _probe(found) for name, found in features.items()}
    base, predicted = features["torch fp32"], probes["torch fp32"]
    labels = base["test"].labels
    rows: list[tuple[str, ...]] = []
    numbers: dict[str, float] = {}
    for name in ways:
        cosine = float(torch.cat([_cosine(features[name][split], base[split]) for split in SPLITS]).mean())
        agreement = float((probes[name] == predicted).float().mean())
        accuracy = float((probes[name] == labels).float().mean())
        rows.append((name, f"{cosine:.5f}", f"{agreement:.4f}", f"{accuracy:.4f}"))
        numbers |= {f"{name} cosine": cosine, f"{name} agreement": agreement, f"{name} accuracy": accuracy}
    weights = "random weights, whose features say little" if settings.weights is None else "pretrained weights"
    return Section(
        title="equivalence",
        text=f"{settings.backbone} with {weights}, {sum(len(base[split].labels) for split in SPLITS):,} photos. "
        f"Agreement and accuracy are those of an exact linear probe on {len(labels)} test photos.",
        columns=("engine", "cosine to torch fp32", "same answers", "probe accuracy"),
        rows=rows,
        numbers=numbers,
    )


def _features(settings: BenchSettings, device: torch.device, engine: str, precision: str) -> dict[str, Features]:
    with tempfile.TemporaryDirectory() as directory, FeatureStore(Path(directory), 1e12) as store:
        data = BreedDataModule(
            settings.photos,
            settings.backbone,
            settings.weights or "random",
            on_bad_image="skip",
            features=FeaturesConfig(engine, precision, None, mirror=False),
            device=device,
            store=store,
        )
        data.setup()
        return data.features.vectors


def _probe(features: dict[str, Features]) -> Tensor:
    """Returns the classes that the exact solution gives the test photos."""
    normalise = FeatureNormalisation(features["train"].tensor.shape[1])
    normalise.fit(features["train"].tensor)
    inputs = {split: normalise(found.tensor) for split, found in features.items()}
    labels = {split: found.labels for split, found in features.items()}
    path = ExactPath(inputs["train"], labels["train"], inputs["valid"], labels["valid"], None)
    return path.best().logits(inputs["test"]).argmax(dim=1)


def _cosine(one: Features, other: Features) -> Tensor:
    return torch.nn.functional.cosine_similarity(one.tensor, other.tensor)

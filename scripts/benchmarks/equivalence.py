"""Case `equivalence`: what the fast engine's features are worth, against eager fp32, and what int8 costs."""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from dogbreeds.data.layout import SPLITS
from dogbreeds.features.engines import available
from dogbreeds.features.engines.reference import resolve_precision
from dogbreeds.features.int8 import Calibration
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.model.exact import ExactPath
from dogbreeds.model.head import FeatureNormalisation
from dogbreeds.schema import FeaturesConfig
from dogbreeds.training.datamodule import BreedDataModule
from dogbreeds.training.features import Features

_Splits = dict[str, Features]
_SCORED = ("valid", "test")
_LIBRARIES = {"tf_efficientnet_lite0": "timm", "tf_efficientnet_lite2": "timm"}


def run(settings: BenchSettings) -> Section:
    """Compares features, and exact probes trained on them, over all photos; the backbones take turns."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = [row for name in _backbones(settings) for row in _compared(settings, device, name)]
    weights = "random weights, whose features say little" if settings.weights is None else "pretrained weights"
    return Section(
        title="equivalence",
        text=f"{', '.join(_backbones(settings))} with {weights}. Agreement and accuracy are those of an exact linear "
        f"probe on the validation and test photos. int8 is the mean over {settings.seeds} calibrations with photos "
        "drawn by different seeds, its cosine the least.",
        columns=("backbone", "engine", "cosine: mean", "least", "same answers", "probe accuracy"),
        rows=[
            (name, way, f"{cosine:.5f}", f"{least:.4f}", f"{agreement:.4f}", f"{accuracy:.4f}")
            for name, way, cosine, least, agreement, accuracy in found
        ],
        numbers={
            f"{name} {way} {what}": value
            for name, way, *values in found
            for what, value in zip(("cosine", "least cosine", "agreement", "accuracy"), values, strict=True)
        },
    )


def _backbones(settings: BenchSettings) -> list[str]:
    """The backbones whose weights lie in a folder, or the one of the settings."""
    folder = Path(settings.weights or "")
    names = dict.fromkeys((settings.backbone, "squeezenet1_1", "mobilenet_v2", *_LIBRARIES))
    found = [name for name in names if any(folder.glob(f"{name}*"))] if settings.weights else []
    return found or [settings.backbone]


def _compared(
    settings: BenchSettings, device: torch.device, backbone: str
) -> Iterator[tuple[str, str, float, float, float, float]]:
    """Yields mean and least cosine, share of equal answers and accuracy of each engine, the first against itself."""
    fast = available(device)[0]
    ways = {
        "torch fp32": ("torch", "fp32"),
        "torch bf16": ("torch", "bf16"),
        f"{fast} fp32": (fast, "fp32"),
        f"{fast} auto": (fast, resolve_precision("auto", device)),
    }
    base = _features(settings, device, backbone, "torch", "fp32")
    labels = torch.cat([base[split].labels for split in _SCORED])
    expected = _probe(base)

    def scores(features: _Splits) -> tuple[float, float, float, float]:
        cosine = torch.cat([_cosine(features[split], base[split]) for split in SPLITS])
        answers = _probe(features)
        agreement, accuracy = ((answers == other).double().mean() for other in (expected, labels))
        return float(cosine.mean()), float(cosine.min()), float(agreement), float(accuracy)

    for name, way in ways.items():
        yield backbone, name, *scores(_features(settings, device, backbone, *way))
    if fast == "openvino":
        seeds = [scores(_features(settings, device, backbone, fast, "int8", seed)) for seed in range(settings.seeds)]
        mean, least, agreement, accuracy = zip(*seeds, strict=True)
        found = (statistics.mean(mean), min(least), statistics.mean(agreement), statistics.mean(accuracy))
        yield backbone, "openvino int8", *found


def _features(
    settings: BenchSettings, device: torch.device, backbone: str, engine: str, precision: str, seed: int = 0
) -> _Splits:
    """Returns features of all splits; `seed` draws the photos that calibrate int8."""
    with tempfile.TemporaryDirectory() as directory, FeatureStore(Path(directory), 1e12) as store:
        data = BreedDataModule(
            settings.photos,
            backbone,
            settings.weights or "random",
            library=_LIBRARIES.get(backbone, "torchvision"),
            on_bad_image="skip",
            features=FeaturesConfig(engine, precision, None, mirror=False),
            device=device,
            store=store,
        )
        data.index(store)
        if data.calibration is not None:
            photos = data.folders.splits["train"]
            drawn = random.Random(seed).sample(photos, len(data.calibration.files))
            data.calibration = Calibration({photo.digest: photo.path for photo in drawn})
        data.load_backbone()
        data.load_features(store)
        return data.features.vectors


def _probe(features: _Splits) -> Tensor:
    """Returns the classes that the exact solution gives the validation and test photos."""
    normalise = FeatureNormalisation(features["train"].tensor.shape[1])
    normalise.fit(features["train"].tensor)
    inputs = {split: normalise(found.tensor) for split, found in features.items()}
    labels = {split: found.labels for split, found in features.items()}
    path = ExactPath(inputs["train"], labels["train"], inputs["valid"], labels["valid"], None)
    return path.best().logits(torch.cat([inputs[split] for split in _SCORED])).argmax(dim=1)


def _cosine(one: Features, other: Features) -> Tensor:
    return torch.nn.functional.cosine_similarity(one.tensor, other.tensor)

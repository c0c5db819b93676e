"""Case `known`: how many photos of none of the breeds are told from those of the breeds, by several scores."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.accuracy import backbones
from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from dogbreeds import train
from dogbreeds.data.layout import find_photos
from dogbreeds.data.transform import read_all
from dogbreeds.errors import UserError
from dogbreeds.package.predictor import Predictor
from dogbreeds.run_directory import MODEL
from dogbreeds.training.evaluation import threshold_of

_BATCH = 64
_NEAREST = 5
#: Of each split and folder of photos.
Scores = Mapping[str, Tensor]


def run(settings: BenchSettings) -> Section:
    """Trains the exact and the default head of each backbone whose weights lie in a folder.

    Raises:
        UserError: There are no weights, or no folders of photos of none of the breeds.
    """
    weights, names = backbones(settings)
    strangers = {path.name: sorted(path.iterdir()) for path in sorted(Path(settings.strangers or "").glob("*/"))}
    if not settings.strangers or not strangers:
        raise UserError(f"strangers={settings.strangers}: cases=[known] needs a folder with folders of photos in it.")
    splits = find_photos(settings.photos)
    photos = {split: splits.photos(split) for split in ("train", "valid", "test")} | strangers
    label_of = {path: splits.classes.index(name) for name, of in splits.splits["train"].items() for path in of}
    labels = torch.tensor([label_of[path] for path in photos["train"]])
    shares: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as directory:
            place = [f"data.dir={settings.photos}", f"model={name}", f"model.weights={weights}"]
            place += [f"cache.dir={directory}/cache"]
            default = train(*place, f"run_dir={directory}/default")
            strength = default.metrics["reference/strength"]
            exact = train(*place, f"run_dir={directory}/exact", "optimizer=exact", f"weight_decay={strength}")
            predictors = [Predictor.load(one.directory / MODEL, one_by_one=False) for one in (exact, default)]
        features = {kind: _features(predictors[0], paths) for kind, paths in photos.items()}
        by_head = [_by_logits(predictor, features) for predictor in predictors]
        scores = by_head[0] | _by_features(predictors[0], features, labels)
        scores["largest logit, default head"] = by_head[1]["largest logit"]
        shares[name] = {score: _shares(found, strangers) for score, found in scores.items()}
    counts = [
        f"{len(photos['test'])} test photos known",
        *(f"{len(found)} {kind} unknown" for kind, found in strangers.items()),
    ]
    return Section(
        title="known",
        text="Which photos are taken for one of the breeds, by a threshold that 95% of the validation photos "
        f"({len(photos['valid'])}) reach. Each cell: shares of {' / '.join(counts)}. The head is solved exactly, but "
        "for the last column, where it is what train.py trains. Packages use the largest logit.",
        columns=("backbone", *next(iter(shares.values()))),
        rows=[
            (name, *(" / ".join(f"{share:.3f}" for share in found.values()) for found in of.values()))
            for name, of in shares.items()
        ],
        numbers={
            f"{name} {score} {kind}": share
            for name, of in shares.items()
            for score, found in of.items()
            for kind, share in found.items()
        },
    )


def _features(predictor: Predictor, paths: Sequence[Path]) -> Tensor:
    parts = []
    for start in range(0, len(paths), _BATCH):
        read = read_all([path.read_bytes() for path in paths[start : start + _BATCH]], predictor.description.transform)
        parts.append(predictor.engine(torch.stack([image for image in read if isinstance(image, Tensor)])))
    return torch.cat(parts)


def _by_logits(predictor: Predictor, features: Scores) -> dict[str, Scores]:
    scored = {kind: predictor.scored(of) for kind, of in features.items()}
    logits = {kind: found for kind, (found, _) in scored.items()}
    temperature = predictor.description.temperature
    return {
        "largest logit": {kind: scores for kind, (_, scores) in scored.items()},
        "energy": {kind: of.logsumexp(dim=1) for kind, of in logits.items()},
        "probability": {kind: (of / temperature).softmax(dim=1).amax(dim=1) for kind, of in logits.items()},
    }


@torch.inference_mode()
def _by_features(predictor: Predictor, features: Scores, labels: Tensor) -> dict[str, Scores]:
    """Scores that need the training photos: the cosine to the nearest, and the distance of Mahalanobis.

    It is the distance to the nearest class (Lee et al. 2018), by a covariance that is shrunk (Ledoit and Wolf 2004).
    """
    normed = {kind: predictor.network.head.normalise(of.float()).double() for kind, of in features.items()}
    learned = normed["train"]
    unit = normalize(learned, dim=1)
    means = torch.stack([learned[labels == label].mean(dim=0) for label in labels.unique()])
    within = learned - means[labels]
    covariance = within.T @ within / len(within)
    target = covariance.trace() / len(covariance) * torch.eye(len(covariance), dtype=torch.float64)
    error = (within.square().sum(dim=1).square().mean() - covariance.square().sum()) / len(within)
    share = (error / (covariance - target).square().sum()).clamp(max=1)
    precision = torch.linalg.inv(torch.lerp(covariance, target, share))

    def nearness(of: Tensor) -> Tensor:
        return -torch.stack([((of - mean) @ precision * (of - mean)).sum(dim=1) for mean in means]).amin(dim=0)

    return {
        "cosine to the 5 nearest": {
            kind: (normalize(of, dim=1) @ unit.T).topk(_NEAREST, dim=1).values.mean(dim=1)
            for kind, of in normed.items()
        },
        "Mahalanobis": {kind: nearness(of) for kind, of in normed.items()},
    }


def _shares(scores: Scores, strangers: Mapping[str, object]) -> dict[str, float]:
    threshold = threshold_of(scores["valid"])
    known = {kind: float((of >= threshold).double().mean()) for kind, of in scores.items()}
    return {"test": known["test"]} | {kind: 1 - known[kind] for kind in strangers}

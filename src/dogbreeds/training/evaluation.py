"""What a trained network is worth: the scores and facts in metrics.json, and predictions.csv."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dogbreeds.data.folders import BreedFolders
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.files import write_csv
from dogbreeds.model.head import SCORES
from dogbreeds.model.metrics import evaluate, fit_temperature
from dogbreeds.model.network import Network
from dogbreeds.package.examples import DIRECTORY, load_examples
from dogbreeds.package.package import Description, write_description
from dogbreeds.package.predictor import Predictor
from dogbreeds.schema import TrainConfig
from dogbreeds.training.features import Features
from dogbreeds.training.preparation import Prepared

_BATCH_SIZE = 256
# Share of the validation photos that a package may take for strangers.
_STRANGE = 0.05


def describe(config: TrainConfig, prepared: Prepared, network: Network) -> Description:
    """Returns what model.json says of a network that is not calibrated or scored yet."""
    return Description(
        classes=list(prepared.data.folders.classes),
        backbone=prepared.data.backbone.name,
        pretrained=prepared.data.backbone.pretrained,
        unfreeze=config.model.unfreeze,
        transform=prepared.data.backbone.transform,
        head=network.head.shape,
        engine=prepared.features.engine,
        precision=prepared.features.precision,
        temperature=1.0,
        library=prepared.data.backbone.library,
        pool=prepared.data.backbone.pool,
        mirror=config.features.mirror,
        weights=prepared.data.backbone.weights,
        licence=prepared.data.backbone.licence,
        photos=prepared.data.folders.counts(),
        made=datetime.now(UTC).date().isoformat(),
    )


def score(predictor: Predictor, inputs: Mapping[str, Features]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Calibrates a model on the validation photos and scores it on validation and test photos.

    The inputs are what its own trunk gives for the photos: same weights, engine and precision.

    Returns:
        Temperature, threshold and scores, under their names in metrics.json, and for each split the calibrated
        probabilities, float32 (photos, classes), in the order of the index.
    """
    scored = {split: _scored(predictor, inputs[split]) for split in ("valid", "test")}
    logits = {split: found for split, (found, _) in scored.items()}
    temperature = fit_temperature(logits["valid"], inputs["valid"].labels)
    threshold = threshold_of(scored["valid"][1])
    known = {"method": SCORES[predictor.description.head.kind], "threshold": threshold}
    metrics: dict[str, Any] = {"temperature": temperature, "known": known}
    for split, name in (("test", "test"), ("valid", "val")):
        metrics |= evaluate(logits[split], inputs[split].labels, temperature, f"{name}/")
        metrics[f"{name}/known"] = float((scored[split][1] >= threshold).double().mean())
    probabilities = {split: (values / temperature).softmax(dim=1) for split, values in logits.items()}
    return metrics, probabilities


def threshold_of(scores: Tensor) -> float:
    """Returns the score that at least 95% of the validation photos reach.

    Of n photos, up to 20, it is the lowest score: all reach it, and of new photos like them n / (n + 1) on average.
    """
    return float(scores.quantile(_STRANGE, interpolation="lower"))


def compare_fallback(package: Path, cache: BlobCache) -> None:
    """Writes into model.json how many examples get another breed where the trunk cannot run in int8."""
    int8 = Predictor.load(package, torch.device("cpu"), cache, one_by_one=False)
    description, photos = int8.description, load_examples(package)
    plain = replace(description, precision=description.int8["instead"])
    floats = Predictor(plain, int8.network, int8.device, cache, one_by_one=False)
    contents = [(package / DIRECTORY / photo.file).read_bytes() for photo in photos]
    answers = [[answer.top[0].index for answer in one.predict(contents)] for one in (int8, floats)]
    differing = sum(one != other for one, other in zip(*answers, strict=True))
    description.int8 |= {"examples": len(photos), "differing": differing}
    write_description(package, description)


def _scored(predictor: Predictor, features: Features) -> tuple[Tensor, Tensor]:
    """Returns logits (photos, classes) and scores (photos,)."""
    positions = torch.arange(len(features.labels))
    parts = [predictor.scored(features.values[part]) for part in positions.split(_BATCH_SIZE)]
    logits, scores = (torch.cat(column) for column in zip(*parts, strict=True))
    return logits, scores


def save_predictions(
    path: Path, folders: BreedFolders, probabilities: Mapping[str, Tensor], reference: Mapping[str, Tensor]
) -> None:
    """Writes predictions.csv: the two most probable breeds of each photo, and the answer of the exact reference.

    For `probabilities` see `score`, for the answers of the reference `Reference`.
    """
    rows = []
    for split, predicted in probabilities.items():
        photos = folders.splits[split]
        values, indices = predicted.topk(2)
        own = predicted[torch.arange(len(photos)), torch.tensor([photo.label for photo in photos])]
        for photo, probability, (first, second), (best, other), exact in zip(
            photos, own.tolist(), values.tolist(), indices.tolist(), reference[split].tolist(), strict=True
        ):
            rows.append(
                {
                    "split": split,
                    "path": photo.name,
                    "breed": folders.classes[photo.label],
                    "answer": folders.classes[best],
                    "probability": f"{first:.4f}",
                    "breed_probability": f"{probability:.4f}",
                    "second": folders.classes[other],
                    "second_probability": f"{second:.4f}",
                    "reference": folders.classes[exact],
                }
            )
    write_csv(path, list(rows[0]), rows)

"""What a trained network is worth: the scores and the facts of metrics.json."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dogbreeds.data.folders import BreedFolders
from dogbreeds.debug.record import Facts, Searched
from dogbreeds.files import replacing
from dogbreeds.machine import machine, versions
from dogbreeds.model.metrics import evaluate, fit_temperature
from dogbreeds.model.network import Network
from dogbreeds.package.package import Description
from dogbreeds.package.predictor import Predictor
from dogbreeds.schema import TrainConfig
from dogbreeds.training.datamodule import Features
from dogbreeds.training.fitting import steps_of
from dogbreeds.training.history import History
from dogbreeds.training.preparation import Prepared

PREDICTION_COLUMNS = (
    "split",
    "path",
    "breed",
    "answer",
    "probability",
    "breed_probability",
    "second",
    "second_probability",
)
_BATCH = 256


def describe(config: TrainConfig, prepared: Prepared, network: Network) -> Description:
    """Returns what serving must know of a network; the temperature is not measured yet."""
    return Description(
        classes=list(prepared.data.folders.classes),
        backbone=prepared.backbone.name,
        pretrained=prepared.backbone.pretrained,
        unfreeze=config.model.unfreeze,
        transform=prepared.backbone.transform,
        head=network.head.shape,
        engine=prepared.features.engine,
        precision=prepared.features.precision,
        temperature=1.0,
        photos=prepared.data.folders.counts(),
        made=datetime.now(UTC).date().isoformat(),
    )


@dataclass(frozen=True)
class Answers:
    """What a handler says of the photos that it was not trained on.

    Attributes:
        metrics: Its scores, as they stand in metrics.json.
        probabilities: Calibrated, float32 (photos, classes), for each split in the order of the index.
    """

    metrics: dict[str, Any]
    probabilities: dict[str, Tensor]


def answers(handler: Predictor, inputs: Mapping[str, Features]) -> Answers:
    """Scores what a handler says of validation and test photos, and sets its temperature by the former.

    Args:
        handler: What will answer.
        inputs: What its own trunk gives for the photos of each split: same weights, engine and precision.
    """
    logits = {split: _logits(handler, inputs[split]) for split in ("valid", "test")}
    labels = {split: inputs[split].labels for split in logits}
    temperature = fit_temperature(logits["valid"], labels["valid"])
    handler.description.temperature = temperature
    scores = {split: evaluate(logits[split], labels[split], temperature) for split in logits}
    return Answers(
        {**scores["test"].to_json("test"), **scores["valid"].to_json("val")},
        {split: (logits[split] / temperature).softmax(dim=1) for split in logits},
    )


def save_predictions(path: Path, folders: BreedFolders, probabilities: Mapping[str, Tensor]) -> None:
    """Writes predictions.csv: for each validation and test photo the answer, and how sure it is.

    Args:
        path: Where to.
        folders: The photos.
        probabilities: As `answers` gives them.
    """
    rows = []
    for split, predicted in probabilities.items():
        best = predicted.topk(2)
        for photo, row, first, order in zip(
            folders.splits[split], predicted, best.values.tolist(), best.indices.tolist(), strict=True
        ):
            names = folders.classes[photo.label], *(folders.classes[index] for index in order)
            place = photo.path.relative_to(folders.root).as_posix()
            right = float(row[photo.label])
            numbers = [f"{value:.4f}" for value in (first[0], right, first[1])]
            rows.append((split, place, *names[:2], *numbers[:2], names[2], numbers[2]))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(PREDICTION_COLUMNS)
        writer.writerows(rows)


def _logits(handler: Predictor, features: Features) -> Tensor:
    positions = torch.arange(len(features.labels))
    return torch.cat([handler.classify(features.values[part]) for part in positions.split(_BATCH)])


def facts(config: TrainConfig, prepared: Prepared, history: History, handler: Predictor) -> dict[str, Any]:
    """Returns what metrics.json says beside scores and seconds."""
    folders = prepared.data.folders
    return {
        "classes": list(folders.classes),
        "images": folders.counts(),
        "unreadable": len(folders.unreadable),
        "in_several_splits": len(folders.leaks),
        "features": prepared.features.counts(),
        "epochs": len(history.rows),
        "temperature": handler.description.temperature,
        "pretrained": prepared.backbone.pretrained,
        "debug": config.trainer.one_batch,
    }


def known_before(
    config: TrainConfig,
    prepared: Prepared,
    reference: Mapping[str, float],
    searched: Mapping[str, Searched] | None = None,
) -> Facts:
    """Returns what rules and report are told of a run before it trains.

    Args:
        config: Of the run.
        prepared: What it starts from.
        reference: What metrics.json says of the exact linear reference.
        searched: Where the values of a search's best trial lie in what was searched.
    """
    folders = prepared.data.folders
    counts = folders.class_counts("train")
    return Facts(
        class_counts=dict(zip(folders.classes, counts, strict=True)),
        images=folders.counts(),
        in_several_splits=len(folders.leaks),
        unreadable=len(folders.unreadable),
        backbone=prepared.backbone.name,
        pretrained=prepared.backbone.pretrained,
        debug=config.trainer.one_batch,
        epochs=config.epochs,
        steps=steps_of(config, sum(counts)),
        searched=searched or {},
        reference=reference,
        versions=versions(),
        machine=machine(),
    )

"""What a trained network is worth: the scores and the facts of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dogbreeds.data.datamodule import Features
from dogbreeds.history import History
from dogbreeds.model.metrics import evaluate, fit_temperature
from dogbreeds.model.package import Description, Network
from dogbreeds.preparation import Prepared
from dogbreeds.schema import TrainConfig
from dogbreeds.serve.handler import Handler

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
    )


def score(handler: Handler, inputs: Mapping[str, Features]) -> dict[str, Any]:
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
    return {**scores["test"].to_json("test"), **scores["valid"].to_json("val")}


def _logits(handler: Handler, features: Features) -> Tensor:
    positions = torch.arange(len(features.labels))
    return torch.cat([handler.classify(features.values[part]) for part in positions.split(_BATCH)])


def facts(config: TrainConfig, prepared: Prepared, history: History, handler: Handler) -> dict[str, Any]:
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

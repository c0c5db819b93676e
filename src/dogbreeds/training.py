"""The one training run: `train(config)` turns folders of photos into an evaluated, packaged classifier."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dogbreeds.config import RUN_CONFIG, TrainConfig, save
from dogbreeds.data.datamodule import BreedDataModule
from dogbreeds.errors import DataError
from dogbreeds.features.engines.reference import TorchEngine, resolve_precision
from dogbreeds.features.extract import Features, pixels
from dogbreeds.fitting import device_of, fit, quieten
from dogbreeds.model.backbones import Backbone, cut, load_backbone, transform_of
from dogbreeds.model.exact import ExactSolution, solve
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.metrics import Evaluation, evaluate, fit_temperature
from dogbreeds.model.package import (
    Description,
    Network,
    save_archive,
    save_package,
    write_description,
)
from dogbreeds.report.build import build_report
from dogbreeds.serve.handler import Handler

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    Attributes:
        directory: The run directory.
        metrics: The content of metrics.json.
    """

    directory: Path
    metrics: dict[str, Any]

    def summary(self) -> str:
        """Returns the lines that the command prints at its end."""
        metrics = self.metrics
        lines = [
            "",
            f"test accuracy {metrics['test/accuracy']:.4f}   top-5 {metrics['test/top5_accuracy']:.4f}   "
            f"macro F1 {metrics['test/macro_f1']:.4f}   (exact linear reference "
            f"{metrics['reference/test_accuracy']:.4f})",
            f"run    {self.directory}",
            f"report {self.directory / 'report.html'}",
            f"ask it python scripts/predict.py model={self.directory / 'model'} images=<photo, folder or glob>",
        ]
        if metrics["debug"]:
            lines.append("This was a debugging run on one batch: its numbers mean nothing.")
        return "\n".join(lines)


def train(config: TrainConfig) -> RunResult:
    """Trains, evaluates and packages one classifier.

    Args:
        config: A checked config, as `dogbreeds.config.load` returns it.

    Returns:
        The run directory and its metrics. Under DDP, processes other than the first leave after training.

    Raises:
        UserError: The data or the weights cannot be used; the message says why.
    """
    began = time.perf_counter()
    quieten()
    run_dir = Path(config.run_dir)
    device = device_of(config)
    data = _data(config)
    data.setup()
    log.info(data.folders.describe())
    save(config, run_dir / RUN_CONFIG)

    backbone = load_backbone(config.model.backbone, config.model.weights, config.seed)
    _announce(backbone)
    trunk, tail = cut(backbone.stages, backbone.transform, config.model.unfreeze)
    precision = resolve_precision(config.features.precision, device)
    features_began = time.perf_counter()
    features = _features(config, data, backbone, nn.Sequential(*trunk, *tail), device, precision)
    training_began = time.perf_counter()

    class_weights = _class_weights(config, data)
    network = _network(config, data, backbone, trunk, tail, features)
    reference = _reference(network.head, features, class_weights)
    history = fit(config, data, network, precision, class_weights)
    training_ended = time.perf_counter()

    handler, evaluations = _package(config, data, backbone, network, features, precision, device)
    metrics = {
        **evaluations["test"].to_json("test"),
        **evaluations["valid"].to_json("val"),
        **_reference_metrics(reference, network.head, features),
        "classes": list(data.folders.classes),
        "images": data.folders.counts(),
        "unreadable": len(data.folders.unreadable),
        "in_several_splits": len(data.folders.leaks),
        "features": {
            "computed": sum(split.computed for split in features.values()),
            "reused": sum(split.reused for split in features.values()),
            "precision": precision,
        },
        "epochs": len(history.rows),
        "temperature": handler.description.temperature,
        "pretrained": backbone.pretrained,
        "debug": config.trainer.one_batch,
        "seconds": {
            "features": round(training_began - features_began, 2),
            "training": round(training_ended - training_began, 2),
            "total": round(time.perf_counter() - began, 2),
        },
    }
    handler.description.metrics = {name: value for name, value in metrics.items() if "/" in name}
    write_description(run_dir / "model", handler.description)
    save_archive(run_dir / "model", run_dir / "model.tar.gz")
    _write_json(run_dir / "metrics.json", metrics)
    build_report(run_dir)
    _warn_below_reference(metrics)
    return RunResult(run_dir, metrics)


def _data(config: TrainConfig) -> BreedDataModule:
    on_pixels = config.model.unfreeze is not None or config.trainer.one_batch
    return BreedDataModule(
        Path(config.data.dir),
        transform_of(config.model.backbone),
        batch_size=config.batch_size,
        seed=config.seed,
        on_bad_image=config.data.on_bad_image,
        split_seed=config.data.split_seed,
        workers=config.data.workers,
        augment=config.data.augment,
        train_on_pixels=on_pixels or config.data.augment,
        validate_on_pixels=on_pixels,
        one_batch=config.trainer.one_batch,
    )


def _announce(backbone: Backbone) -> None:
    if backbone.pretrained:
        log.info("%s, pretrained, %d features", backbone.name, backbone.width)
    else:
        log.warning(
            "!!! %s has RANDOM weights: it is NOT pretrained, and its accuracy will be poor. "
            "Use model.weights=imagenet or a file for real work.",
            backbone.name,
        )


def _features(
    config: TrainConfig,
    data: BreedDataModule,
    backbone: Backbone,
    layers: nn.Module,
    device: torch.device,
    precision: str,
) -> dict[str, Features]:
    engine = TorchEngine(layers, device=device, precision=precision, batch_size=config.features.batch_size)
    cache = Path(config.cache.dir) if config.cache.enabled else None
    last = -1

    def progress(done: int, total: int) -> None:
        nonlocal last
        tenth = 10 * done // total
        if tenth > last:
            last = tenth
            log.info("features %d/%d", done, total)

    try:
        return data.compute_features(engine, backbone.fingerprint, cache, progress)
    except OSError as error:
        raise DataError(f"A photo cannot be read any more: {error}") from error


def _class_weights(config: TrainConfig, data: BreedDataModule) -> Tensor | None:
    """Weights n / (classes * n_class), the usual `balanced` formula (King and Zeng 2001)."""
    if config.model.class_weights == "none":
        return None
    counts = torch.tensor(data.folders.class_counts("train"), dtype=torch.float32)
    return counts.sum() / (len(counts) * counts.clamp_min(1))


def _network(
    config: TrainConfig,
    data: BreedDataModule,
    backbone: Backbone,
    trunk: nn.Sequential,
    tail: nn.Sequential,
    features: dict[str, Features],
) -> Network:
    torch.manual_seed(config.seed)
    mlp = config.model.head == "mlp"
    shape = HeadShape(
        kind=config.model.head,
        width=backbone.width,
        classes=len(data.folders.classes),
        hidden=tuple(config.model.hidden) if mlp else (),
        dropout=config.model.dropout if mlp else 0.0,
    )
    head = Head(shape)
    head.initialise(features["train"].values)
    return Network(trunk, tail, head)


@torch.no_grad()
def _normalised(head: Head, features: dict[str, Features]) -> dict[str, Tensor]:
    return {split: head.normalise(found.values) for split, found in features.items()}


def _reference(head: Head, features: dict[str, Features], class_weights: Tensor | None) -> ExactSolution:
    inputs = _normalised(head, features)
    train_, valid = features["train"], features["valid"]
    return solve(inputs["train"], train_.labels, inputs["valid"], valid.labels, class_weights)


def _reference_metrics(reference: ExactSolution, head: Head, features: dict[str, Features]) -> dict[str, float]:
    inputs = _normalised(head.cpu(), features)
    accuracy = {
        split: float((reference.logits(inputs[split]).argmax(dim=1) == features[split].labels).double().mean())
        for split in ("valid", "test")
    }
    return {
        "reference/test_accuracy": accuracy["test"],
        "reference/val_accuracy": accuracy["valid"],
        "reference/val_loss": reference.validation_loss,
        "reference/strength": reference.strength,
    }


def _package(
    config: TrainConfig,
    data: BreedDataModule,
    backbone: Backbone,
    network: Network,
    features: dict[str, Features],
    precision: str,
    device: torch.device,
) -> tuple[Handler, dict[str, Evaluation]]:
    """Writes the package, loads it back, and scores what it says of validation and test photos."""
    directory = Path(config.run_dir) / "model"
    description = Description(
        classes=list(data.folders.classes),
        backbone=backbone.name,
        pretrained=backbone.pretrained,
        unfreeze=config.model.unfreeze,
        transform=backbone.transform,
        head=network.head.shape,
        precision=precision,
        batch_size=config.features.batch_size,
        temperature=1.0,
    )
    save_package(directory, description, network)
    handler = Handler.load(directory, device)
    logits = {split: _logits(handler, config, data, features, split) for split in ("valid", "test")}
    handler.description.temperature = fit_temperature(logits["valid"], features["valid"].labels)
    evaluations = {
        split: evaluate(logits[split], features[split].labels, handler.description.temperature)
        for split in ("valid", "test")
    }
    return handler, evaluations


def _logits(
    handler: Handler, config: TrainConfig, data: BreedDataModule, features: dict[str, Features], split: str
) -> Tensor:
    if config.model.unfreeze is None:
        # The very vectors that the handler's own trunk gives: same weights, engine and precision.
        return handler.classify(features[split].values)
    paths = [photo.path for photo in data.folders.splits[split]]
    batches = pixels(paths, handler.description.transform, config.features.batch_size, config.data.workers)
    return torch.cat([handler.logits(batch) for batch in batches])


def _warn_below_reference(metrics: dict[str, Any]) -> None:
    reference, reached = metrics["reference/val_accuracy"], metrics["val/accuracy"]
    # Two standard errors of the difference that this many photos can show.
    margin = 2 * math.sqrt(max(reference * (1 - reference), 0.01) / metrics["images"]["valid"])
    if reached < reference - margin:
        log.warning(
            "The trained head reaches %.3f on the validation photos, the exact linear solution %.3f: "
            "try more epochs, a smaller batch or another lr.",
            reached,
            reference,
        )


def _write_json(path: Path, values: dict[str, Any]) -> None:
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)

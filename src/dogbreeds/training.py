"""The one training run: `train(config)` turns folders of photos into an evaluated, packaged classifier."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dogbreeds.config import RUN_CONFIG, TrainConfig, save
from dogbreeds.data.datamodule import BreedDataModule, Features
from dogbreeds.features.obtain import RunFeatures, obtain
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.fitting import device_of, fit, quieten
from dogbreeds.model.backbones import Backbone, cut, load_backbone
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.metrics import evaluate, fit_temperature
from dogbreeds.model.package import Description, Network, save_archive, save_package, write_description
from dogbreeds.model.reference import exact_reference, warn_below_reference
from dogbreeds.report.build import build_report
from dogbreeds.serve.handler import Handler

log = logging.getLogger(__name__)

_EVALUATION_BATCH = 256


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
    device = device_of(config)
    with _store(config) as store:
        data = _data(config, store)
        save(config, Path(config.run_dir) / RUN_CONFIG)
        backbone = _backbone(config)
        features_began = time.perf_counter()
        features = obtain(config, store, data, backbone, device)
        # A resumed run must not choose again.
        chosen = replace(config.features, engine=features.engine, precision=features.precision)
        config = replace(config, features=chosen)
        save(config, Path(config.run_dir) / RUN_CONFIG)
        training_began = time.perf_counter()
        network = _network(config, data, backbone, features)
        class_weights = _class_weights(config, data)
        reference = exact_reference(network.head, features.vectors, class_weights, store.artefacts)
        history = fit(config, data, network, features.precision, class_weights)
        seconds = {"features": training_began - features_began, "training": time.perf_counter() - training_began}
        metrics, handler = _package(config, data, backbone, network, features, device)
    metrics |= {
        **reference,
        "classes": list(data.folders.classes),
        "images": data.folders.counts(),
        "unreadable": len(data.folders.unreadable),
        "in_several_splits": len(data.folders.leaks),
        "features": features.counts(),
        "epochs": len(history.rows),
        "temperature": handler.description.temperature,
        "pretrained": backbone.pretrained,
        "debug": config.trainer.one_batch,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }
    return _finish(config, metrics, handler, began)


def _finish(config: TrainConfig, metrics: dict[str, Any], handler: Handler, began: float) -> RunResult:
    run_dir = Path(config.run_dir)
    handler.description.metrics = {name: value for name, value in metrics.items() if "/" in name}
    write_description(run_dir / "model", handler.description)
    save_archive(run_dir / "model", run_dir / "model.tar.gz")
    metrics["seconds"]["total"] = round(time.perf_counter() - began, 2)
    _write_json(run_dir / "metrics.json", metrics)
    build_report(run_dir)
    warn_below_reference(metrics)
    return RunResult(run_dir, metrics)


def prepare_features(config: TrainConfig) -> dict[str, int | str]:
    """Fills the feature store with what `train` would need, and trains nothing.

    Returns:
        What metrics.json would say of features.

    Raises:
        UserError: The data or the weights cannot be used; the message says why.
    """
    quieten()
    device = device_of(config)
    with _store(config) as store:
        data = _data(config, store)
        backbone = _backbone(config)
        return obtain(config, store, data, backbone, device).counts()


def _store(config: TrainConfig) -> FeatureStore:
    return FeatureStore(Path(config.cache.dir), config.cache.max_gb * 1e9)


def _data(config: TrainConfig, store: FeatureStore) -> BreedDataModule:
    data = BreedDataModule(
        Path(config.data.dir),
        store.files.examine,
        batch_size=config.batch_size,
        seed=config.seed,
        on_bad_image=config.data.on_bad_image,
        split_seed=config.data.split_seed,
        workers=config.data.workers,
        one_batch=config.trainer.one_batch,
    )
    data.setup()
    log.info(data.folders.describe())
    return data


def _backbone(config: TrainConfig) -> Backbone:
    backbone = load_backbone(config.model.backbone, config.model.weights, config.seed)
    if backbone.pretrained:
        log.info("%s, pretrained, %d features", backbone.name, backbone.width)
    else:
        log.warning(
            "!!! %s has RANDOM weights: it is NOT pretrained, and its accuracy will be poor. "
            "Use model.weights=imagenet or a file for real work.",
            backbone.name,
        )
    return backbone


def _class_weights(config: TrainConfig, data: BreedDataModule) -> Tensor | None:
    """Weights n / (classes * n_class), the usual `balanced` formula (King and Zeng 2001)."""
    if config.model.class_weights == "none":
        return None
    counts = torch.tensor(data.folders.class_counts("train"), dtype=torch.float32)
    return counts.sum() / (len(counts) * counts.clamp_min(1))


def _network(config: TrainConfig, data: BreedDataModule, backbone: Backbone, features: RunFeatures) -> Network:
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
    head.initialise(features.vectors["train"].tensor)
    return Network(*cut(backbone.stages, backbone.transform, config.model.unfreeze), head)


def _package(
    config: TrainConfig,
    data: BreedDataModule,
    backbone: Backbone,
    network: Network,
    features: RunFeatures,
    device: torch.device,
) -> tuple[dict[str, Any], Handler]:
    """Writes the package, loads it back, and scores what it says of validation and test photos."""
    directory = Path(config.run_dir) / "model"
    description = Description(
        classes=list(data.folders.classes),
        backbone=backbone.name,
        pretrained=backbone.pretrained,
        unfreeze=config.model.unfreeze,
        transform=backbone.transform,
        head=network.head.shape,
        engine=features.engine,
        precision=features.precision,
        temperature=1.0,
    )
    save_package(directory, description, network)
    handler = Handler.load(directory, device)
    # What the handler's own trunk gives: same weights, engine and precision.
    logits = {split: _logits(handler, features.inputs[split]) for split in ("valid", "test")}
    labels = {split: features.inputs[split].labels for split in logits}
    temperature = fit_temperature(logits["valid"], labels["valid"])
    handler.description.temperature = temperature
    scores = {split: evaluate(logits[split], labels[split], temperature) for split in logits}
    return {**scores["test"].to_json("test"), **scores["valid"].to_json("val")}, handler


def _logits(handler: Handler, features: Features) -> Tensor:
    positions = torch.arange(len(features.labels))
    return torch.cat([handler.classify(features.values[part]) for part in positions.split(_EVALUATION_BATCH)])


def _write_json(path: Path, values: dict[str, Any]) -> None:
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)

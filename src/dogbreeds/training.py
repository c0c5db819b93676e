"""The one training run: `train(config)` turns folders of photos into an evaluated, packaged classifier."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dogbreeds.atomic import write_text
from dogbreeds.config import METRICS, RUN_CONFIG, save
from dogbreeds.evaluation import describe, facts, score
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.fitting import Report, fit, fit_exactly, fit_trial, quieten
from dogbreeds.history import History
from dogbreeds.model.package import Network, save_archive, save_package, write_description
from dogbreeds.model.reference import warn_below_reference
from dogbreeds.preparation import Prepared, prepare
from dogbreeds.report.build import build_report
from dogbreeds.schema import TrainConfig
from dogbreeds.serve.handler import Handler


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
    save(config, run_dir / RUN_CONFIG)
    with open_store(config) as store:
        features_began = time.perf_counter()
        prepared = prepare(config, store)
        config = prepared.decided(config)
        save(config, run_dir / RUN_CONFIG)
        training_began = time.perf_counter()
        network = prepared.network(config)
        reference = prepared.reference(config, network.head)
        history = fit_network(config, prepared, network)
        seconds = {"features": training_began - features_began, "training": time.perf_counter() - training_began}
        handler = package(run_dir, config, prepared, network)
        metrics = score(handler, prepared.features.inputs)
    metrics |= reference | facts(config, prepared, history, handler)
    describe_scores(run_dir, metrics, handler)
    save_archive(run_dir / "model", run_dir / "model.tar.gz")
    seconds["total"] = time.perf_counter() - began
    metrics["seconds"] = {name: round(value, 2) for name, value in seconds.items()}
    return complete(run_dir, metrics)


def fit_network(config: TrainConfig, prepared: Prepared, network: Network, report: Report | None = None) -> History:
    """Trains what is new in a network.

    Args:
        config: How.
        prepared: What it is trained on.
        network: Has the best weights by validation loss afterwards.
        report: Of a trial of a search, which keeps nothing but its history on the way; see `fit_trial`.
    """
    if config.optimizer == "exact":
        path = prepared.exact_path(config, network.head)
        return fit_exactly(config, path, network, prepared.features.inputs)
    weights = prepared.class_weights(config)
    given = (config, prepared.batches(config), network, prepared.features.precision, weights)
    return fit(*given) if report is None else fit_trial(*given, report)


def package(run_dir: Path, config: TrainConfig, prepared: Prepared, network: Network) -> Handler:
    """Writes the model package of a run and loads it back, so that its scores are those of what is handed on."""
    save_package(run_dir / "model", describe(config, prepared, network), network)
    return Handler.load(run_dir / "model", prepared.device)


def describe_scores(run_dir: Path, metrics: dict[str, Any], handler: Handler) -> None:
    """Writes the scores and the temperature of a handler into the package that it was loaded from."""
    handler.description.metrics = {name: value for name, value in metrics.items() if "/" in name}
    write_description(run_dir / "model", handler.description)


def complete(run_dir: Path, metrics: dict[str, Any]) -> RunResult:
    """Writes metrics.json, which says that a run is through, and its report."""
    write_json(run_dir / METRICS, metrics)
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
    with open_store(config) as store:
        return prepare(config, store).features.counts()


def open_store(config: TrainConfig) -> FeatureStore:
    """Opens the feature store of a run."""
    return FeatureStore(Path(config.cache.dir), config.cache.max_gb * 1e9)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a file whole or not at all."""
    write_text(path, json.dumps(values, indent=1) + "\n")

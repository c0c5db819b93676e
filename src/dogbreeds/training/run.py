"""The one training run: `train(config)` turns folders of photos into an evaluated, packaged classifier."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback

from dogbreeds.config import save
from dogbreeds.debug.catalogue import Judgement, issues, verdict_of
from dogbreeds.debug.hook_settings import check_smdebug
from dogbreeds.debug.timeline import Phases
from dogbreeds.features.store.artefacts import Artefacts
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.files import write_text
from dogbreeds.model.network import Network
from dogbreeds.package.archive import archive_for
from dogbreeds.package.examples import choose, save_examples
from dogbreeds.package.package import save_package, write_description
from dogbreeds.package.predictor import Predictor
from dogbreeds.report.build import build_report
from dogbreeds.run_directory import METRICS, PREDICTIONS, REPORT, RUN_CONFIG
from dogbreeds.schema import TrainConfig
from dogbreeds.training.evaluation import answers, describe, facts, known_before, save_predictions
from dogbreeds.training.fitting import Report, fit, fit_exactly, fit_trial, local_rank, quieten
from dogbreeds.training.history import History
from dogbreeds.training.preparation import Prepared, prepare
from dogbreeds.training.watching import Debugger


@dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    Attributes:
        directory: The run directory.
        metrics: The content of metrics.json.
        judgements: What the rules said; none where none were asked.
    """

    directory: Path
    metrics: dict[str, Any]
    judgements: tuple[Judgement, ...]

    @property
    def issues(self) -> tuple[str, ...]:
        """The rules that found something."""
        return tuple(one.name for one in issues(self.judgements))

    def summary(self) -> str:
        """Returns the lines that the command prints at its end."""
        metrics = self.metrics
        lines = [
            "",
            f"test accuracy {metrics['test/accuracy']:.4f}   top-5 {metrics['test/top5_accuracy']:.4f}   "
            f"macro F1 {metrics['test/macro_f1']:.4f}   (exact linear reference "
            f"{metrics['reference/test_accuracy']:.4f})",
            *([f"rules  {verdict_of(self.judgements)}"] if self.judgements else []),
            f"run    {self.directory}",
            f"report {self.directory / REPORT}",
            f"ask it python scripts/predict.py model={self.directory / 'model'} images=<photo, folder or glob>",
        ]
        if metrics["debug"]:
            lines.append("This was a debugging run on one batch: its numbers mean nothing.")
        return "\n".join(lines)


def train(config: TrainConfig, began: float | None = None, callbacks: Sequence[Callback] = ()) -> RunResult:
    """Trains, evaluates and packages one classifier.

    Args:
        config: A checked config, as `dogbreeds.config.load` returns it.
        began: When the program was started, in seconds since 1970, for the report; None is now.
        callbacks: Listen to the training beside what the config asks for.

    Returns:
        The run directory and its metrics. Under DDP, processes other than the first leave after training.

    Raises:
        UserError: The data or the weights cannot be used; the message says why.
    """
    began = time.time() if began is None else began
    if config.debugger.smdebug:
        check_smdebug()
    quieten()
    run_dir = Path(config.run_dir)
    save(config, run_dir / RUN_CONFIG)
    with Debugger(config, began, first=local_rank() == 0) as debugger, open_store(config) as store:
        phase = debugger.phases.phase
        prepared = prepare(config, store, debugger.phases)
        config = prepared.decided(config)
        save(config, run_dir / RUN_CONFIG)
        network = prepared.network(config)
        with phase("reference"):
            reference = prepared.reference(config, network.head)
        debugger.know(known_before(config, prepared, reference))
        with phase("training"):
            history = fit_network(config, prepared, network, watching=[*debugger.callbacks(), *callbacks])
        with phase("test"):
            handler = package(run_dir, config, prepared, network)
            found = answers(handler, prepared.features.inputs)
        metrics = found.metrics | reference | facts(config, prepared, history, handler)
        describe_scores(run_dir, metrics, handler)
        save_predictions(run_dir / PREDICTIONS, prepared.data.folders, found.probabilities)
        with phase("package"):
            add_examples(run_dir, config, prepared, handler)
            archive_for(run_dir / "model", run_dir / "model.tar.gz", gpus=0, requirements=True)
        metrics["seconds"] = seconds(debugger.phases, began)
        judgements = debugger.finish(metrics)
    return complete(run_dir, metrics, judgements)


def seconds(phases: Phases, began: float) -> dict[str, float]:
    """Returns what metrics.json says of the time that a run took."""
    found = {"features": phases.seconds("index", "backbone", "features"), "training": phases.seconds("training")}
    found["total"] = time.time() - began
    return {name: round(value, 2) for name, value in found.items()}


def fit_network(
    config: TrainConfig,
    prepared: Prepared,
    network: Network,
    *,
    watching: Sequence[Callback] = (),
    report: Report | None = None,
) -> History:
    """Trains what is new in a network.

    Args:
        config: How.
        prepared: What it is trained on.
        network: Has the best weights by validation loss afterwards.
        watching: Callbacks that look on.
        report: Of a trial of a search, which keeps nothing but its history on the way; see `fit_trial`.
    """
    if config.optimizer == "exact":
        path = prepared.exact_path(config, network.head)
        return fit_exactly(config, path, network, prepared.features.inputs)
    weights = prepared.class_weights(config)
    given = (config, prepared.batches(config), network, prepared.features.precision, weights)
    return fit(*given, watching) if report is None else fit_trial(*given, report)


def package(run_dir: Path, config: TrainConfig, prepared: Prepared, network: Network) -> Predictor:
    """Writes the model package of a run and loads it back, so that its scores are those of what is handed on."""
    save_package(run_dir / "model", describe(config, prepared, network), network)
    return Predictor.load(run_dir / "model", prepared.device, Artefacts.of(Path(config.cache.dir)))


def describe_scores(run_dir: Path, metrics: dict[str, Any], handler: Predictor) -> None:
    """Writes the scores and the temperature of a handler into the package that it was loaded from."""
    handler.description.metrics = {name: value for name, value in metrics.items() if "/" in name}
    write_description(run_dir / "model", handler.description)


def add_examples(run_dir: Path, config: TrainConfig, prepared: Prepared, handler: Predictor) -> None:
    """Puts example photos into the package that a handler was loaded from; its temperature must be set."""
    if config.model.examples:
        folders = prepared.data.folders
        save_examples(run_dir / "model", choose(folders, config.model.examples), folders.classes)


def complete(run_dir: Path, metrics: dict[str, Any], judgements: Sequence[Judgement]) -> RunResult:
    """Writes metrics.json, which says that a run is through, and its report."""
    write_json(run_dir / METRICS, metrics)
    build_report(run_dir)
    return RunResult(run_dir, metrics, tuple(judgements))


def prepare_features(config: TrainConfig) -> dict[str, int | str]:
    """Fills the feature store with what `train` would need, and trains nothing.

    Returns:
        What metrics.json would say of features.

    Raises:
        UserError: The data or the weights cannot be used; the message says why.
    """
    quieten()
    with open_store(config) as store:
        return prepare(config, store, Phases()).features.counts()


def open_store(config: TrainConfig) -> FeatureStore:
    """Opens the feature store of a run."""
    return FeatureStore(Path(config.cache.dir), config.cache.max_gb * 1e9)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a file whole or not at all."""
    write_text(path, json.dumps(values, indent=1) + "\n")

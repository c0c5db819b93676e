"""One trial of a search: a training run that keeps its config, metrics, history and head, and nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from dogbreeds.config import METRICS, RUN_CONFIG, load_saved, save
from dogbreeds.evaluation import describe, facts, score
from dogbreeds.fitting import Report, threads_of
from dogbreeds.model.package import load_state, save_state
from dogbreeds.preparation import Preparations, Prepared
from dogbreeds.schema import TrainConfig
from dogbreeds.serve.handler import Handler
from dogbreeds.threads import compute_threads
from dogbreeds.training import complete, describe_scores, fit_network, package, write_json

HEAD = "head.safetensors"
_TRAINED = ("tail", "head")


def run_trial(config: TrainConfig, prepared: Prepared, report: Report) -> dict[str, Any]:
    """Trains and evaluates what one trial asks for.

    Args:
        config: Its checked config; `run_dir` is the trial's own.
        prepared: What it shares with others.
        report: Called after each epoch; True ends the trial there.

    Returns:
        The content of its metrics.json.

    Raises:
        UserError: It did not come to an end; the message says why.
    """
    with compute_threads(threads_of(config)):
        return _run(config, prepared, report)


def _run(config: TrainConfig, prepared: Prepared, report: Report) -> dict[str, Any]:
    began = time.perf_counter()
    directory = Path(config.run_dir)
    config = prepared.decided(config)
    save(config, directory / RUN_CONFIG)
    network = prepared.network(config)
    reference = prepared.reference(config, network.head)
    training_began = time.perf_counter()
    pruned = False

    def noted(row: dict[str, float]) -> bool:
        nonlocal pruned
        pruned = report(row)
        return pruned

    history = fit_network(config, prepared, network, noted)
    trained = time.perf_counter() - training_began
    save_state(directory / HEAD, network, _TRAINED)
    handler = Handler(describe(config, prepared, network), network, prepared.device)
    metrics = score(handler, prepared.features.inputs)
    metrics |= reference | facts(config, prepared, history, handler)
    if pruned:
        metrics["pruned"] = True
    # Features are the search's, not the trial's.
    seconds = {"features": 0.0, "training": trained, "total": time.perf_counter() - began}
    metrics["seconds"] = {name: round(value, 2) for name, value in seconds.items()}
    write_json(directory / METRICS, metrics)
    return metrics


def package_trial(directory: Path, preparations: Preparations) -> None:
    """Gives a finished trial what a single run has: the model package and the report.

    Raises:
        UserError: The data or the weights cannot be used any more; the message says why.
    """
    config = load_saved(directory / RUN_CONFIG)
    prepared = preparations.of(config)
    network = prepared.network(config)
    load_state(directory / HEAD, network, _TRAINED)
    handler = package(directory, config, prepared, network)
    # Sets the temperature; the scores are those that are there.
    score(handler, prepared.features.inputs)
    metrics = json.loads((directory / METRICS).read_text(encoding="utf-8"))
    describe_scores(directory, metrics, handler)
    complete(directory, metrics)

"""One trial of a search: a training run that keeps its config, metrics, history and head, and nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from dogbreeds.config import load_saved, save
from dogbreeds.debug.catalogue import watching_rules
from dogbreeds.debug.record import Record, Searched
from dogbreeds.debug.watch import Judge
from dogbreeds.hpo.space import Interval, Space, Values
from dogbreeds.machine import compute_threads
from dogbreeds.package.package import load_state, save_state
from dogbreeds.package.predictor import Predictor
from dogbreeds.run_directory import METRICS, PREDICTIONS, RUN_CONFIG
from dogbreeds.schema import TrainConfig
from dogbreeds.training.evaluation import answers, describe, facts, known_before, save_predictions
from dogbreeds.training.fitting import Report, threads_of
from dogbreeds.training.preparation import Preparations, Prepared
from dogbreeds.training.run import add_examples, complete, describe_scores, fit_network, package, write_json

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

    history = fit_network(config, prepared, network, report=noted)
    trained = time.perf_counter() - training_began
    save_state(directory / HEAD, network, _TRAINED)
    handler = Predictor(describe(config, prepared, network), network, prepared.device)
    metrics = answers(handler, prepared.features.inputs).metrics
    metrics |= reference | facts(config, prepared, history, handler)
    if pruned:
        metrics["pruned"] = True
    # Features are the search's, not the trial's.
    seconds = {"features": 0.0, "training": trained, "total": time.perf_counter() - began}
    metrics["seconds"] = {name: round(value, 2) for name, value in seconds.items()}
    write_json(directory / METRICS, metrics)
    return metrics


def package_trial(directory: Path, preparations: Preparations, space: Space, values: Values) -> None:
    """Gives a finished trial what a single run has: the model package, the verdict of the rules and the report.

    Args:
        directory: Its own.
        preparations: What it starts from, if it is there already.
        space: What was searched.
        values: Where in it the trial was.

    Raises:
        UserError: The data or the weights cannot be used any more; the message says why.
    """
    config = load_saved(directory / RUN_CONFIG)
    prepared = preparations.of(config)
    network = prepared.network(config)
    load_state(directory / HEAD, network, _TRAINED)
    handler = package(directory, config, prepared, network)
    # Sets the temperature; the scores are those that are there.
    probabilities = answers(handler, prepared.features.inputs).probabilities
    save_predictions(directory / PREDICTIONS, prepared.data.folders, probabilities)
    metrics = json.loads((directory / METRICS).read_text(encoding="utf-8"))
    describe_scores(directory, metrics, handler)
    add_examples(directory, config, prepared, handler)
    reference = {name: value for name, value in metrics.items() if name.startswith("reference/")}
    known = known_before(config, prepared, reference, _searched(space, values))
    known.save(directory)
    record = Record(facts=known, metrics=metrics)
    judgements = Judge(directory, record, watching_rules(config.debugger)).look(running=False)
    complete(directory, metrics, judgements)


def _searched(space: Space, values: Values) -> dict[str, Searched]:
    return {
        name: Searched(dimension.low, dimension.high, float(values[name]), log=dimension.scale == "log")
        for name, dimension in space.dimensions.items()
        if isinstance(dimension, Interval) and dimension.low < dimension.high
    }

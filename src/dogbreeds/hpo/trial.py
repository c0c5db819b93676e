"""One trial of a search: a run that keeps config, metrics, history and head, and is packaged if it is the best."""

from pathlib import Path
from typing import Any

from dogbreeds.config import load_run
from dogbreeds.debug.catalogue import watching_rules
from dogbreeds.debug.record import Record, Searched
from dogbreeds.debug.watch import Judge
from dogbreeds.files import read_json
from dogbreeds.hpo.space import Interval, Space, Values
from dogbreeds.machine import compute_threads
from dogbreeds.package.package import load_state, save_state
from dogbreeds.run_directory import HEAD, METRICS
from dogbreeds.schema import TrainConfig
from dogbreeds.training.fitting import Report, threads_of
from dogbreeds.training.preparation import Preparations, Prepared
from dogbreeds.training.run import Run

_TRAINED = ("tail", "head")


def run_trial(config: TrainConfig, prepared: Prepared, report: Report) -> dict[str, Any]:
    """Trains and scores one trial, and returns the content of its metrics.json."""
    with compute_threads(threads_of(config)):
        run = Run(config, prepared)
        run.fit(report=report)
        save_state(run.directory / HEAD, run.network, _TRAINED)
        run.score()
        run.save_metrics()
    return run.metrics


def package_trial(directory: Path, preparations: Preparations, space: Space, values: Values) -> None:
    """Gives a finished trial what a single run has: the model package, the audit, the verdicts of the rules and the
    report."""
    # The search may have been moved, or resumed from another directory.
    config = load_run(directory)
    metrics = read_json(directory / METRICS)
    run = Run(config, preparations.of(config))
    load_state(directory / HEAD, run.network, _TRAINED)
    run.score()
    # The scores are the same, and the trial knows its epochs and seconds.
    run.metrics = metrics
    run.package(archive=False)
    searched = {
        name: Searched(dimension.low, dimension.high, float(values[name]), log=dimension.scale == "log")
        for name, dimension in space.dimensions.items()
        if isinstance(dimension, Interval) and dimension.low < dimension.high
    }
    run.audit()
    facts = run.facts(searched)
    facts.save(directory)
    judge = Judge(directory, Record(facts=facts, metrics=metrics), watching_rules(config.debugger))
    run.report(judge.look(running=False))

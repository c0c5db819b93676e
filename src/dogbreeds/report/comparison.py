"""One page that compares runs."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dogbreeds.debug.measurements import usage_percentiles
from dogbreeds.debug.rules.verdict import NO_ISSUES, NOT_APPLICABLE
from dogbreeds.errors import UserError
from dogbreeds.files import yaml_beside
from dogbreeds.formats import counted, duration, ends, percent, points, short
from dogbreeds.model.paired import Paired, interval, unpaired_interval
from dogbreeds.overrides import flat
from dogbreeds.report.against_exact import settling
from dogbreeds.report.chart import SERIES, Chart, chart, figure, line
from dogbreeds.report.page import write_page
from dogbreeds.report.run import Run, read_run, right_by_photo
from dogbreeds.report.sections.rules import STATUSES

_ABSENT = "-"
_METRICS: list[tuple[str, str, bool | None]] = yaml_beside(__file__, "metrics.yaml")
_SECONDS = (("features", "Features"), ("training", "Training"), ("total", "Whole run"))
# Where a run is written is not a property of it.
_NOT_COMPARED = ("run_dir", "resume")
_MAX_BREEDS = 40
_QUIET = {STATUSES[NO_ISSUES], STATUSES[NOT_APPLICABLE], _ABSENT}


@dataclass(frozen=True)
class Line:
    """A row of a comparison: a cell for each run, and the positions of the best ones if some are better."""

    name: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()


def build_comparison(runs: Sequence[Path], target: Path) -> Path:
    """Writes a page that compares two or more runs, finished or not, and returns its path."""
    if len(runs) < 2:
        raise UserError("A comparison needs two or more run directories: runs=outputs/<one>,outputs/<another>.")
    read, names = [read_run(directory) for directory in runs], short_names(runs)
    content = {
        "names": names,
        "directories": list(runs),
        "verdict": verdict(read, names),
        "different": were_tested_differently(read),
        "losses": losses(read, names),
        "tables": (
            ("metrics", "Scores", [*metrics(read), *differences(read)]),
            ("settings", "Settings that differ", settings(read)),
            ("breeds", "Breeds that differ most", breeds(read)),
            ("rules", "Rules that found an issue", rules(read)),
            ("time", "Time and machine", resources(read)),
        ),
    }
    return write_page(target, "compare.html", content)


def short_names(runs: Sequence[Path]) -> list[str]:
    """Returns the directories' paths below the folder that they share; a repeated directory gets its position."""
    resolved = [directory.resolve() for directory in runs]
    if len(set(resolved)) < len(resolved):
        return [f"{place}: {directory.name}" for place, directory in enumerate(resolved, start=1)]
    shared = Path(os.path.commonpath(resolved))
    return [directory.name if directory == shared else str(directory.relative_to(shared)) for directory in resolved]


def verdict(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Says which run is best, and whether that is more than chance: see `compared`."""
    finished = [(run, name) for run, name in zip(runs, names, strict=True) if run.metrics]
    if len(finished) < 2:
        return f"{len(finished)} of {len(runs)} runs finished: too few to compare scores."
    (first, best), (second, following) = sorted(finished, key=lambda one: -float(one[0].metrics["test/accuracy"]))[:2]
    reached = f"{percent(first.metrics['test/accuracy'])} of the test photos classified correctly"
    if first.metrics["test/accuracy"] == second.metrics["test/accuracy"]:
        return f"{best} and {following} are equally good: {reached}."
    found = compared(first, second)
    more = f"{points(found.difference)} points ({ends(found.interval)}) more than {following}"
    clear = "best" if found.interval[0] > 0 else f"not clearly better than {following}"
    return f"{best} is {clear}: {reached}, {more}."


@dataclass(frozen=True)
class Difference:
    """Of the test accuracies of two runs, with its 95% interval, and how it was found."""

    difference: float
    interval: tuple[float, float]
    how: str


def compared(first: Run, second: Run, split: str = "test") -> Difference:
    """Compares two finished runs photo by photo, or as a whole where these are not the same photos."""
    pair = Paired.by_photo(*(right_by_photo(run.predictions, split) for run in (first, second)))
    if pair is None:
        name = "val" if split == "valid" else split
        shares = [(run.metrics[f"{name}/accuracy"], run.images[split]) for run in (first, second)]
        return Difference(shares[0][0] - shares[1][0], unpaired_interval(*shares), "other photos")
    how = f"{pair.first} : {pair.second}, p = {pair.p_value:.2g}"
    more = settling(pair)
    return Difference(pair.difference, pair.interval, f"{how}; {more}" if more else how)


def differences(runs: Sequence[Run]) -> list[Line]:
    """Returns how much each run's test accuracy is above that of the best, and the photos that tell them apart."""
    finished = [run for run in runs if run.metrics]
    if len(finished) < 2:
        return []
    best = max(finished, key=lambda run: float(run.metrics["test/accuracy"]))
    found = [compared(run, best) if run.metrics and run is not best else None for run in runs]
    cells = tuple(f"{points(one.difference)} ({ends(one.interval)})" if one else _ABSENT for one in found)
    how = tuple(one.how if one else _ABSENT for one in found)
    told = "Test photos that only this run, and only the best one, gets right"
    return [Line("Test accuracy, points above the best run", cells), Line(told, how)]


def were_tested_differently(runs: Sequence[Run]) -> bool:
    """Says whether the finished runs saw different classes, or different test photos."""
    finished = [run for run in runs if run.metrics]
    tested = {frozenset(right_by_photo(run.predictions, "test")) for run in finished if run.predictions}
    return len({(*run.classes, run.images["test"]) for run in finished}) > 1 or len(tested) > 1


def metrics(runs: Sequence[Run]) -> list[Line]:
    rows = []
    for name, title, more in _METRICS:
        row = _line(title, [run.metrics.get(name) for run in runs], percent if "accuracy" in name else short, more=more)
        rows.append(_with_intervals(row, name, runs) if "accuracy" in name else row)
    return _known(rows)


def _with_intervals(row: Line, name: str, runs: Sequence[Run]) -> Line:
    """Adds the 95% interval of each accuracy, and marks all runs that are not clearly below the best one."""
    split = "valid" if name.startswith("val/") else "test"
    cells = [
        f"{cell} ({ends(interval(run.metrics[name], run.images[split]))})" if name in run.metrics else cell
        for cell, run in zip(row.cells, runs, strict=True)
    ]
    marked = row.best
    if row.best and name.endswith(("test/accuracy", "val/accuracy")):
        best, finished = runs[min(row.best)], [place for place, run in enumerate(runs) if run.metrics]
        level = [place for place in finished if compared(runs[place], best, split).interval[1] >= 0]
        marked = frozenset(level if level != finished else ())
    return Line(row.name, tuple(cells), marked)


def breeds(runs: Sequence[Run]) -> list[Line]:
    """Returns the breeds whose test accuracy differs most; none if the runs know different breeds."""
    finished = [run for run in runs if run.metrics]
    if len(finished) < 2 or len({tuple(run.classes) for run in finished}) > 1:
        return []
    scores = [run.metrics.get("test/per_class_accuracy", ()) for run in runs]
    apart = np.ptp([row for row in scores if row], axis=0)
    order = [int(place) for place in np.argsort(-apart, kind="stable")[:_MAX_BREEDS]]
    first = finished[0]
    return [
        _line(first.name(first.classes[place]), [row[place] if row else None for row in scores], percent, more=True)
        for place in order
        if apart[place]
    ]


def resources(runs: Sequence[Run]) -> list[Line]:
    seconds = [run.metrics.get("seconds", {}) for run in runs]
    rows = [_line(title, [one.get(name) for one in seconds], duration, more=False) for name, title in _SECONDS]
    sampled = [usage_percentiles(run.record.measurements.samples) for run in runs]
    used = [{f"{row.name}, p95 in {row.unit}": row.p95 for row in of_run} for of_run in sampled]
    names = dict.fromkeys(name for of_run in used for name in of_run)
    return _known([*rows, *(_line(name, [of_run.get(name) for of_run in used], short, more=None) for name in names)])


def settings(runs: Sequence[Run]) -> list[Line]:
    configs = [flat(run.config) for run in runs]
    names = dict.fromkeys(name for config in configs for name in config if name not in _NOT_COMPARED)
    rows = [Line(name, tuple(str(config.get(name, _ABSENT)) for config in configs)) for name in names]
    return [row for row in rows if len(set(row.cells)) > 1]


def rules(runs: Sequence[Run]) -> list[Line]:
    found = [{rule["name"]: _status(rule) for rule in run.rules} for run in runs]
    names = dict.fromkeys(name for of_run in found for name in of_run)
    rows = [Line(name, tuple(of_run.get(name, _ABSENT) for of_run in found)) for name in names]
    return [row for row in rows if not _QUIET.issuperset(row.cells)]


def _status(rule: Mapping[str, Any]) -> str:
    word = STATUSES[rule["status"]]
    return f"{word} ({counted(rule['count'], 'time')})" if rule["count"] else word


def losses(runs: Sequence[Run], names: Sequence[str]) -> Chart:
    data = []
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        epochs, values = ([row[column] for row in run.history] for column in ("epoch", "val/loss"))
        data.append(line(epochs, values, name, SERIES[place % len(SERIES)], markers=True))
    lowest = {name: min(trace["y"]) for name, trace in zip(names, data, strict=True) if trace["y"]}
    message = "No run has finished an epoch."
    if lowest:
        best = min(lowest, key=lowest.__getitem__)
        message = f"{best} has the lowest validation loss: {lowest[best]:.4f}."
    drawn = figure(data, "epoch", "validation loss", {"hovermode": "x unified", "showlegend": True})
    return chart("losses", "Validation loss of each epoch", message, drawn, height=380)


def _line(name: str, values: Sequence[float | None], shown: Any, *, more: bool | None) -> Line:
    known = [value for value in values if value is not None]
    cells = tuple(_ABSENT if value is None else shown(value) for value in values)
    if more is None or len(set(known)) < 2:
        return Line(name, cells)
    best = max(known) if more else min(known)
    return Line(name, cells, frozenset(place for place, value in enumerate(values) if value == best))


def _known(rows: Iterable[Line]) -> list[Line]:
    """Leaves out what is known of no run."""
    return [row for row in rows if set(row.cells) != {_ABSENT}]

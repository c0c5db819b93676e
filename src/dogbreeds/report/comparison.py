"""One page that holds runs against each other."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dogbreeds.debug.system import statistics_of
from dogbreeds.errors import UserError
from dogbreeds.report.chart import SERIES, Chart, chart, figure, label, line
from dogbreeds.report.formats import counted, duration, percent, short
from dogbreeds.report.page import write_page
from dogbreeds.report.run import Run, read_run
from dogbreeds.report.sections.rules import STATUSES

_ABSENT = "-"
#: Numbers of metrics.json with their names, and whether more of them is better; None where a run cannot help it.
_METRICS = (
    ("test/accuracy", "Test accuracy", True),
    ("test/top5_accuracy", "Test top-5 accuracy", True),
    ("test/macro_f1", "Test macro F1", True),
    ("test/loss", "Test loss", False),
    ("test/calibration_error", "Test calibration error", False),
    ("val/accuracy", "Validation accuracy", True),
    ("val/loss", "Validation loss", False),
    ("reference/test_accuracy", "Exact linear reference, test accuracy", None),
)
_SECONDS = (("features", "Features"), ("training", "Training"), ("total", "Whole run"))
# Where a run is written is no property of it.
_NOT_COMPARED = ("run_dir", "resume")
_MOST_CLASSES = 40


@dataclass(frozen=True)
class Line:
    """A row of a comparison.

    Attributes:
        name: Of what is compared.
        cells: One for each run.
        best: Positions of the best ones; empty where none is better than another.
    """

    name: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()


def build_comparison(runs: Sequence[Path], target: Path) -> Path:
    """Writes a page that compares runs.

    Args:
        runs: Two or more run directories, however far each came.
        target: The page.

    Returns:
        The path of the page, which loads nothing from elsewhere.

    Raises:
        UserError: There are fewer than two, or one has no config.yaml; the message names it.
    """
    if len(runs) < 2:
        raise UserError("A comparison takes two or more run directories, such as outputs/<date>/<time> of each run.")
    read = [read_run(directory) for directory in runs]
    names = short_names(runs)
    charts = [losses(read, names), *_breeds(read, names)]
    tables = (
        ("metrics", "Scores", metrics(read)),
        ("settings", "Settings that differ", settings(read)),
        ("rules", "Rules", rules(read)),
        ("time", "Time and machine", resources(read)),
    )
    content = {
        "names": names,
        "directories": list(runs),
        "verdict": verdict(read, names),
        "different": were_tested_differently(read),
        "charts": charts,
        "tables": tables,
    }
    return write_page(target, "compare.html", content)


def short_names(runs: Sequence[Path]) -> list[str]:
    """Returns what tells the directories apart: their paths below the folder that they share.

    A run directory that is given twice is told apart by its position.
    """
    resolved = [directory.resolve() for directory in runs]
    if len(set(resolved)) == len(resolved):
        shared = os.path.commonpath(resolved)
        return [
            str(directory.relative_to(shared)) if directory != Path(shared) else directory.name
            for directory in resolved
        ]
    return [f"{place}: {directory.name}" for place, directory in enumerate(resolved, start=1)]


def verdict(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Says which run has the best test accuracy, and by how much."""
    scores = [(run.metrics["test/accuracy"], name) for run, name in zip(runs, names, strict=True) if run.metrics]
    if len(scores) < 2:
        return f"{len(scores)} of {len(runs)} runs came to their end, too few to compare scores."
    (first, best), (second, following) = sorted(scores, reverse=True)[:2]
    if first == second:
        return f"{best} and {following} are equally good: {percent(first)} of the test photos."
    points = f"{100 * (first - second):.1f} points more than {following}"
    return f"{best} is ahead: {percent(first)} of the test photos, {points}."


def were_tested_differently(runs: Sequence[Run]) -> bool:
    """Says whether the runs that ended saw other classes, or other numbers of test photos."""
    return len({(*run.classes, run.images["test"]) for run in runs if run.metrics}) > 1


def metrics(runs: Sequence[Run]) -> list[Line]:
    """Returns the scores of the runs, the best one of each marked."""
    return _known(
        _line(title, [run.metrics.get(name) for run in runs], percent if "accuracy" in name else short, more=more)
        for name, title, more in _METRICS
    )


def resources(runs: Sequence[Run]) -> list[Line]:
    """Returns seconds and system usage of the runs."""
    rows = [
        _line(title, [run.metrics.get("seconds", {}).get(name) for run in runs], duration, more=False)
        for name, title in _SECONDS
    ]
    used = [
        {f"{row.name}, p95 in {row.unit}": row.p95 for row in statistics_of(run.record.measurements.samples)}
        for run in runs
    ]
    for name in dict.fromkeys(name for of_run in used for name in of_run):
        rows.append(_line(name, [of_run.get(name) for of_run in used], short, more=None))
    return _known(rows)


def settings(runs: Sequence[Run]) -> list[Line]:
    """Returns the settings that are not the same in all runs."""
    configs = [flat(run.config) for run in runs]
    names = dict.fromkeys(name for config in configs for name in config if name not in _NOT_COMPARED)
    rows = [Line(name, tuple(str(config.get(name, _ABSENT)) for config in configs)) for name in names]
    return [row for row in rows if len(set(row.cells)) > 1]


def rules(runs: Sequence[Run]) -> list[Line]:
    """Returns what each rule says of each run."""
    found = [{rule["name"]: rule for rule in run.rules} for run in runs]
    rows = []
    for name in dict.fromkeys(name for of_run in found for name in of_run):
        cells = [of_run.get(name) for of_run in found]
        rows.append(Line(name, tuple(_status(rule) if rule else _ABSENT for rule in cells)))
    return rows


def _status(rule: Mapping[str, Any]) -> str:
    word = STATUSES[rule["status"]]
    return f"{word} ({counted(rule['count'], 'time')})" if rule["count"] else word


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the settings of a config in dotted form."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def losses(runs: Sequence[Run], names: Sequence[str]) -> Chart:
    """Draws the validation loss of all runs over their epochs."""
    data = []
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        epochs, values = ([row[column] for row in run.history] for column in ("epoch", "val/loss"))
        data.append(line(epochs, values, name, SERIES[place % len(SERIES)], markers=True))
    least = {name: min(trace["y"]) for name, trace in zip(names, data, strict=True) if trace["y"]}
    message = "No run has ended an epoch."
    if least:
        best = min(least, key=least.__getitem__)
        message = f"The lowest validation loss is that of {best}: {least[best]:.4f}."
    drawn = figure(data, "epoch", "validation loss", {"hovermode": "x unified", "showlegend": True})
    return chart("losses", "Validation loss of each epoch", message, drawn, height=380)


def _breeds(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    """Draws each breed's accuracy in all runs that ended, where these know the same breeds."""
    ended = [(run, name) for run, name in zip(runs, names, strict=True) if run.metrics]
    if len(ended) < 2 or len({tuple(run.classes) for run, _ in ended}) > 1:
        return []
    first = ended[0][0]
    scores = np.array([run.metrics["test/per_class_accuracy"] for run, _ in ended])
    apart = scores.max(axis=0) - scores.min(axis=0)
    order = [int(place) for place in np.argsort(-apart, kind="stable")[:_MOST_CLASSES]]
    shown = [first.name(first.classes[place]) for place in order]
    spans = {
        "type": "scatter",
        "mode": "lines",
        "x": [
            value for place in order for value in (float(scores[:, place].min()), float(scores[:, place].max()), None)
        ],
        "y": [label(name) for name in shown for _ in range(3)],
        "line": {"color": "var(--line)", "width": 3},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    points = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": scores[row, order].tolist(),
            "y": [label(name) for name in shown],
            "name": label(name),
            "marker": {"color": SERIES[row % len(SERIES)], "size": 10, "symbol": row % 6},
            "hovertemplate": "<b>%{y}</b>: %{x:.1%}",
        }
        for row, (_, name) in enumerate(ended)
    ]
    layout = {
        "xaxis": {"tickformat": ".0%"},
        "yaxis": {"type": "category", "autorange": "reversed"},
        "hovermode": "closest",
        "showlegend": True,
    }
    widest = 100 * float(apart[order[0]])
    message = f"{shown[0]} differs the most, by {widest:.0f} points; the largest differences first."
    if not widest:
        message = "Each breed is answered equally well by all of them."
    if len(order) < len(first.classes):
        message += f" The first {len(order)} of {len(first.classes)}."
    drawn = figure([spans, *points], "right answers among the test photos", "", layout)
    return [chart("breeds", "Accuracy of each breed", message, drawn, height=130 + 24 * len(order))]


def _line(name: str, values: Sequence[float | None], shown: Any, *, more: bool | None) -> Line:
    known = [value for value in values if value is not None]
    cells = tuple(_ABSENT if value is None else shown(value) for value in values)
    if more is None or len(set(known)) < 2:
        return Line(name, cells)
    best = max(known) if more else min(known)
    return Line(name, cells, frozenset(place for place, value in enumerate(values) if value == best))


def _known(rows: Any) -> list[Line]:
    """Leaves out what no run knows."""
    return [row for row in rows if set(row.cells) != {_ABSENT}]

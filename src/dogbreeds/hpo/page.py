"""search.html: one self-contained page about a search, with charts that answer to the mouse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState, create_trial

from dogbreeds.debug.record import read_history
from dogbreeds.hpo.leaderboard import FINISHED, Entry, Leaderboard
from dogbreeds.hpo.rendering import distributions
from dogbreeds.hpo.screen import shown
from dogbreeds.hpo.space import Choice, Space
from dogbreeds.installation import command
from dogbreeds.overrides import override, value_of
from dogbreeds.report.chart import ACCENT, SOFT, WARM, Chart, Figure, Trace, chart, figure, label, line
from dogbreeds.report.formats import counted, duration
from dogbreeds.report.page import write_page
from dogbreeds.report.sections.numbers import Number
from dogbreeds.run_directory import HISTORY

PAGE = "search.html"
_REFERENCES = {
    "val/loss": "reference/val_loss",
    "val/accuracy": "reference/val_accuracy",
    "test/accuracy": "reference/test_accuracy",
}
_CURVE = "val/loss"
# What of Optuna's layouts is a matter of taste.
_LOOK = ("template", "title", "plot_bgcolor", "paper_bgcolor", "font")
_HEIGHT = 380
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 4, 6, 10, 20, 50, 100)


def build_search_page(directory: Path, board: Leaderboard, space: Space, *, debug: bool) -> Path:
    """Writes search.html into the directory of a search with a finished trial.

    Args:
        directory: Where the trials are, each in the directory of its number.
        board: What came of them.
        space: What was varied.
        debug: The trials saw one batch of the photos.

    Returns:
        The path of the page, which loads nothing from elsewhere.
    """
    best = board.best
    assert best is not None
    reference = (best.metrics or {}).get(_REFERENCES.get(board.objective.name, ""))
    study = _study(board, space)
    charts = [
        _history(study, board, reference),
        _curves(directory, board),
        *_importances(study, board),
        _coordinates(study, board),
    ]
    return write_page(
        directory / PAGE,
        "search.html",
        {
            "again": f"{command('train')} {override('best_of', directory)}",
            "debug": debug,
            "summary": board.summary(),
            "objective": board.objective.name,
            "maximize": board.objective.maximize,
            "dimensions": list(space.dimensions),
            "best": best,
            "numbers": _numbers(board, best, reference),
            "charts": charts,
            "entries": [_row(entry, space) for entry in board.entries],
        },
    )


def _numbers(board: Leaderboard, best: Entry, reference: float | None) -> list[Number]:
    objective = board.objective.name
    found = [Number(shown(best.value), objective, f"of the best trial, number {best.number}")]
    if reference is not None:
        found.append(Number(shown(reference), "Exact linear reference", objective))
    found += [Number(shown(value), name, "of the best trial") for name, value in best.values.items()]
    seconds = sum(entry.seconds for entry in board.entries)
    return [*found, Number(duration(seconds), "All trials together")]


def _row(entry: Entry, space: Space) -> dict[str, object]:
    remark = "" if entry.state == FINISHED else f"{entry.state}: {entry.message}" if entry.message else entry.state
    return {
        "number": entry.number,
        "value": shown(entry.value),
        "tried": [shown(entry.values.get(name)) for name in space.dimensions],
        "epochs": entry.epochs,
        "seconds": f"{entry.seconds:.1f}",
        "remark": remark,
    }


def _study(board: Leaderboard, space: Space) -> optuna.Study:
    """The trials as Optuna's charts want them, with the values as people read them."""
    choices = {
        name: {text: _number_or_text(text) for text in dimension.values}
        for name, dimension in space.dimensions.items()
        if isinstance(dimension, Choice)
    }
    readable: dict[str, BaseDistribution] = {
        **distributions(space),
        **{name: CategoricalDistribution(tuple(values.values())) for name, values in choices.items()},
    }
    study = optuna.create_study(direction="maximize" if board.objective.maximize else "minimize")
    for entry in sorted(board.finished, key=lambda entry: entry.number):
        parameters = {
            name: choices[name][str(value)] if name in choices else value for name, value in entry.values.items()
        }
        study.add_trial(
            create_trial(state=TrialState.COMPLETE, value=entry.value, params=parameters, distributions=readable)
        )
    return study


def _number_or_text(text: str) -> int | float | str:
    """Numbers are drawn in their order, texts in that of their appearance."""
    value = value_of(text)
    return value if isinstance(value, int | float) else text


def _history(study: optuna.Study, board: Leaderboard, reference: float | None) -> Chart:
    drawn = _own(optuna.visualization.plot_optimization_history(study, target_name=board.objective.name))
    for trace in drawn["data"]:
        trace |= {"marker": {"color": SOFT, "size": 7}} if trace["mode"] == "markers" else {"line": {"color": ACCENT}}
    places = [entry.number for entry in board.finished]
    _finish_axes(drawn, places, board.objective.name, reference)
    best = board.best
    message = f"Trial {best.number} is the best of {len(places)} that finished." if best else ""
    return chart("history", "How the search went", message, drawn, height=_HEIGHT)


def _curves(directory: Path, board: Leaderboard) -> Chart:
    data: list[Trace] = []
    best = board.best
    # The best one last, so that it lies above the others.
    for entry in reversed(board.entries):
        path = directory / str(entry.number) / HISTORY
        if not path.is_file():
            continue
        rows = read_history(path)
        values = ", ".join(f"{name}={shown(value)}" for name, value in entry.values.items())
        drawn_line = line(
            [row["epoch"] for row in rows],
            [row[_CURVE] for row in rows],
            f"{entry.number}{'' if entry.state == FINISHED else f' ({entry.state})'}",
            ACCENT if entry is best else SOFT,
            width=3 if entry is best else 1,
            markers=True,
            hover=f"trial {entry.number}: {label(values)}<br>epoch %{{x}}: %{{y:.4f}}<extra></extra>",
        )
        data.append({**drawn_line, "showlegend": entry is best})
    message = f"The {_CURVE} of {counted(len(data), 'trial')}; the best one is drawn bold."
    epochs = [epoch for trace in data for epoch in trace["x"]]
    drawn = figure(data, "epoch", _CURVE, {"hovermode": "closest"})
    _finish_axes(drawn, epochs, _CURVE, (best.metrics or {}).get(_REFERENCES[_CURVE]) if best else None)
    return chart("curves", "Learning curves", message, drawn, height=_HEIGHT)


def _importances(study: optuna.Study, board: Leaderboard) -> list[Chart]:
    if len({entry.value for entry in board.finished}) < 2:
        return []
    drawn = _own(optuna.visualization.plot_param_importances(study, target_name=board.objective.name))
    (bars,) = drawn["data"]
    bars["marker"] = {"color": ACCENT}
    drawn["layout"]["xaxis"]["title"]["text"] = "share of the differences"
    drawn["layout"]["yaxis"] = {"showgrid": False}
    shares = dict(zip(bars["y"], bars["x"], strict=True))
    most = max(shares, key=shares.__getitem__)
    message = f"{most} mattered most: it explains {shares[most]:.0%} of the differences between the trials."
    return [chart("importances", "Which settings mattered", message, drawn, height=120 + 44 * len(shares))]


def _coordinates(study: optuna.Study, board: Leaderboard) -> Chart:
    drawn = _own(optuna.visualization.plot_parallel_coordinate(study, target_name=board.objective.name))
    # The last trace holds nothing but the bar of Optuna's colours.
    drawn["data"] = [trace for trace in drawn["data"] if trace["mode"] == "lines"]
    for trace in drawn["data"]:
        place = trace["y"][0]
        distance = 1 - place if board.objective.maximize else place
        is_best = distance == 0
        trace["opacity"] = 1 - 0.75 * distance
        trace["line"] = {"color": ACCENT if is_best else SOFT, "width": 3 if is_best else 1.5}
    drawn["layout"]["xaxis"] |= {"gridcolor": "var(--soft)", "gridwidth": 1}
    for mark in drawn["layout"].get("annotations", ()):
        mark["font"] = {"color": "var(--soft)", "size": 11}
    for shape in drawn["layout"].get("shapes", ()):
        shape["line"] = {"color": "var(--line)", "width": 1}
    message = "Each line is a trial, from what came of it to its settings: the better, the bolder."
    return chart("coordinates", "All finished trials", message, drawn, height=_HEIGHT)


def _own(drawn: go.Figure) -> Figure:
    """Returns a figure of Optuna's as plain values, without its title and look."""
    found: dict[str, Any] = json.loads(drawn.to_json())
    layout = {name: value for name, value in found["layout"].items() if name not in _LOOK}
    return {"data": found["data"], "layout": layout}


def _finish_axes(drawn: Figure, places: Sequence[float], measured: str, reference: float | None) -> None:
    if measured.endswith("/loss"):
        # One learning rate that is far too large would press all others into one line.
        ticks = {"type": "log", "tickvals": _TICKS, "ticktext": [f"{tick:g}" for tick in _TICKS]}
        drawn["layout"]["yaxis"] = drawn["layout"].get("yaxis", {}) | ticks
    if reference is not None and places:
        ends = [min(places) - 0.5, max(places) + 0.5]
        drawn["data"].append(line(ends, [reference, reference], "exact linear", WARM, dash="dash", width=1.5))

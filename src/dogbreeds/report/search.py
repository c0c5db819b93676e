"""search.html: one self-contained page about a search, with charts that answer to the mouse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import optuna
import plotly.graph_objects as go
from markupsafe import Markup
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState, create_trial
from plotly.offline import get_plotlyjs

from dogbreeds.commands import override
from dogbreeds.history import read_history
from dogbreeds.report.page import write_page
from dogbreeds.report.plots import INK, REFERENCE, TRAIN, VALID
from dogbreeds.run_directory import HISTORY
from dogbreeds.search.leaderboard import FINISHED, Entry, Leaderboard
from dogbreeds.search.rendering import distributions
from dogbreeds.search.screen import shown
from dogbreeds.search.space import Choice, Space, value_of

PAGE = "search.html"
_REFERENCES = {
    "val/loss": "reference/val_loss",
    "val/accuracy": "reference/val_accuracy",
    "test/accuracy": "reference/test_accuracy",
}
_CURVE = "val/loss"
_HEIGHT = 380
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 4, 6, 10, 20, 50, 100)


@dataclass(frozen=True)
class Chart:
    """A chart of the page, or the reason why there is none."""

    title: str
    figure: Markup | None
    reason: str = ""


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
    charts = (
        _history(study, board, reference),
        _curves(directory, board),
        _importances(study, board),
        _coordinates(study, board),
    )
    return write_page(
        directory / PAGE,
        "search.html",
        {
            "plotly": Markup(get_plotlyjs()),
            "again": override("best_of", directory),
            "debug": debug,
            "summary": board.summary(),
            "objective": board.objective.name,
            "maximize": board.objective.maximize,
            "dimensions": list(space.dimensions),
            "best": best,
            "best_values": [(name, shown(value)) for name, value in best.values.items()],
            "reference": reference,
            "seconds": sum(entry.seconds for entry in board.entries),
            "charts": charts,
            "entries": [_row(entry, space) for entry in board.entries],
        },
    )


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
    figure = optuna.visualization.plot_optimization_history(study, target_name=board.objective.name)
    figure.update_traces(marker={"color": TRAIN}, selector={"mode": "markers"})
    figure.update_traces(line={"color": VALID}, selector={"mode": "lines"})
    _finish_axes(figure, board.objective.name, reference)
    return Chart("How the search went", _html(figure, "history"))


def _curves(directory: Path, board: Leaderboard) -> Chart:
    figure = go.Figure()
    best = board.best
    # The best one last, so that it lies above the others.
    for entry in reversed(board.entries):
        path = directory / str(entry.number) / HISTORY
        if not path.is_file():
            continue
        rows = read_history(path)
        values = ", ".join(f"{name}={shown(value)}" for name, value in entry.values.items())
        figure.add_scatter(
            x=[row["epoch"] for row in rows],
            y=[row[_CURVE] for row in rows],
            name=f"{entry.number}{'' if entry.state == FINISHED else f' ({entry.state})'}",
            mode="lines+markers",
            marker={"size": 4},
            line={"color": VALID if entry is best else TRAIN, "width": 3 if entry is best else 1},
            hovertemplate=f"trial {entry.number}: {values}<br>epoch %{{x}}: %{{y:.4f}}<extra></extra>",
        )
    figure.update_layout(xaxis_title="epoch", yaxis_title=_CURVE)
    _finish_axes(figure, _CURVE, (best.metrics or {}).get(_REFERENCES[_CURVE]) if best else None)
    return Chart("Learning curves: the best trial and all others", _html(figure, "curves"))


def _importances(study: optuna.Study, board: Leaderboard) -> Chart:
    title = "Which settings mattered"
    values = {entry.value for entry in board.finished}
    if len(values) < 2:
        return Chart(title, None, "Two finished trials that differ are needed to tell.")
    figure = optuna.visualization.plot_param_importances(study, target_name=board.objective.name)
    figure.update_traces(marker={"color": VALID})
    return Chart(title, _html(figure, "importances"))


def _coordinates(study: optuna.Study, board: Leaderboard) -> Chart:
    figure = optuna.visualization.plot_parallel_coordinate(study, target_name=board.objective.name)
    return Chart("All finished trials", _html(figure, "coordinates"))


def _finish_axes(figure: go.Figure, measured: str, reference: float | None) -> None:
    if measured.endswith("/loss"):
        # One learning rate that is far too large would press all others into one line.
        figure.update_yaxes(type="log", tickvals=_TICKS, ticktext=[f"{tick:g}" for tick in _TICKS])
    places = [place for trace in figure.data for place in trace.x]
    if reference is not None and places:
        figure.add_scatter(
            x=[min(places) - 0.5, max(places) + 0.5],
            y=[reference, reference],
            name="exact linear",
            mode="lines",
            line={"color": REFERENCE, "dash": "dash", "width": 1.5},
        )


def _html(figure: go.Figure, name: str) -> Markup:
    figure.update_layout(
        title=None,
        height=_HEIGHT,
        margin={"l": 60, "r": 30, "t": 30, "b": 50},
        font={"family": "system-ui, sans-serif", "color": INK},
        template="plotly_white",
    )
    config = {"displayModeBar": False, "responsive": True}
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config))

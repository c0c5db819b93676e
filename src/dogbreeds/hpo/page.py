"""search.html: a self-contained page about a search, with interactive charts."""

import math
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import create_trial

from dogbreeds.debug.record import read_history
from dogbreeds.files import read_json, reading
from dogbreeds.formats import counted, percent, shown
from dogbreeds.hpo.backbones import Candidate, backbone_chart
from dogbreeds.hpo.leaderboard import FINISHED, Entry, Leaderboard
from dogbreeds.hpo.rendering import distributions, encode
from dogbreeds.hpo.space import Choice, Dimension, Interval, Space
from dogbreeds.installation import command
from dogbreeds.model.paired import interval
from dogbreeds.overrides import override, value_of
from dogbreeds.report.chart import (
    ACCENT,
    FIGURES,
    SOFT,
    WARM,
    Chart,
    Figure,
    Trace,
    bars,
    chart,
    figure,
    label,
    line,
    log_axis,
    ticks,
)
from dogbreeds.report.page import write_page
from dogbreeds.run_directory import HISTORY, RULES, SEARCH_PAGE

_CURVE = "val/loss"
_HEIGHT = 380


def build_search_page(board: Leaderboard, space: Space, backbones: Sequence[Candidate] = ()) -> Path:
    """Writes search.html for a search with a finished trial; `backbones` are those to choose from, the best first."""
    best = board.winner(board.directory)
    reference = _reference(best, board.objective.name)
    charts = [
        *([backbone_chart(backbones)] if backbones else []),
        _history(board, reference),
        *([_curves(board)] if max(entry.epochs for entry in board.entries) > 1 else []),
        *_importances(board, space),
        _coordinates(board, space),
    ]
    content = {
        "again": f"{command('train')} {override('best_of', board.directory)}",
        "board": board,
        "space": space,
        "best": best,
        "interval": _interval(board, best),
        "reference": reference,
        "judged": read_json(board.directory / str(best.number) / RULES).get("rules", []),
        "charts": charts,
    }
    return write_page(board.directory / SEARCH_PAGE, "search.html", content)


def _reference(entry: Entry, name: str) -> float | None:
    """Returns what the exact linear solution has in place of a number of a trial, where it has one."""
    return entry.metrics.get(f"reference/{name.replace('/', '_')}")


def _interval(board: Leaderboard, entry: Entry) -> tuple[float, float] | None:
    """Returns the 95% interval of an objective that is a share of photos, where their number is known."""
    pair = board.pairs.get(entry.number)
    if pair is None or entry.value is None or not board.objective.name.endswith("accuracy"):
        return None
    return interval(entry.value, pair.photos)


def _history(board: Leaderboard, reference: float | None) -> Chart:
    best, name = board.best, board.objective.name
    finished = sorted(board.finished, key=lambda entry: entry.number)
    numbers = [entry.number for entry in finished]
    values = [entry.value for entry in finished if entry.value is not None]
    so_far = [min(values[: end + 1], key=board.objective.rank) for end in range(len(values))]
    points = line(numbers, values, name, SOFT) | {"mode": "markers", "marker": {"color": SOFT, "size": 7}}
    ends = [_interval(board, entry) for entry in finished]
    if all(ends):
        above = [high - value for value, (_, high) in zip(values, filter(None, ends), strict=True)]
        below = [value - low for value, (low, _) in zip(values, filter(None, ends), strict=True)]
        points["error_y"] = {"type": "data", "array": above, "arrayminus": below, "thickness": 1, "width": 3}
    traces = [points, line(numbers, so_far, "best so far", ACCENT)]
    drawn = figure(traces, "trial", name, {"xaxis": ticks(numbers)})
    _finish_axes(drawn, numbers, name, reference)
    message = f"Trial {best.number} is the best of {len(numbers)} that finished." if best else ""
    return chart("history", "How the search went", message, drawn, height=_HEIGHT)


def _curves(board: Leaderboard) -> Chart:
    data: list[Trace] = []
    best = board.best
    # The best one last, so that it is drawn above the others.
    for entry in reversed(board.entries):
        path = board.directory / str(entry.number) / HISTORY
        if not (rows := read_history(path)):
            continue
        values = ", ".join(f"{name}={shown(value)}" for name, value in entry.values.items())
        with reading(path):
            epochs, measured = [row["epoch"] for row in rows], [row[_CURVE] for row in rows]
        name = f"trial {entry.number}{'' if entry.state == FINISHED else f' ({entry.state})'}"
        color, width = (ACCENT, 3) if entry is best else (SOFT, 1)
        hover = f"trial {entry.number}: {label(values)}<br>epoch %{{x}}: %{{y:.4f}}<extra></extra>"
        drawn_line = line(epochs, measured, name, color, width=width, markers=True, hover=hover)
        data.append({**drawn_line, "showlegend": entry is best})
    message = f"The {_CURVE} of {counted(len(data), 'trial')}; the best one is bold."
    epochs = [epoch for trace in data for epoch in trace["x"]]
    drawn = figure(data, "epoch", _CURVE, {"hovermode": "closest"})
    _finish_axes(drawn, epochs, _CURVE, _reference(best, _CURVE) if best else None)
    return chart("curves", "Learning curves", message, drawn, height=_HEIGHT)


def _importances(board: Leaderboard, space: Space) -> list[Chart]:
    if len({entry.value for entry in board.finished}) < 2:
        return []
    # Optuna's measure of importance takes the finished trials as a study, which it would announce.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study, varied = optuna.create_study(direction=board.objective.direction), distributions(space)
    for entry in sorted(board.finished, key=lambda entry: entry.number):
        parameters = encode(space, entry.values)
        study.add_trial(create_trial(value=entry.value, params=parameters, distributions=varied))
    shares = optuna.importance.get_param_importances(study)
    # Plotly draws the first bar at the bottom.
    names = sorted(shares, key=shares.__getitem__)
    explained = [shares[name] for name in names]
    shown_bars = bars(names, explained, ACCENT, "%{y}: %{x:.0%}<extra></extra>", sideways=True)
    shown_bars |= {"text": [percent(share, 0) for share in explained], "textangle": 0}
    layout = {"xaxis": {"tickformat": ".0%"}, "yaxis": {"showgrid": False}}
    drawn = figure([shown_bars], "share of the differences", "", layout)
    message = f"{names[-1]} mattered most: it explains {shares[names[-1]]:.0%} of the differences"
    message += f" between {counted(len(board.finished), 'trial')}. The fewer they are, the less that says."
    return [chart("importances", "Which settings mattered", message, drawn, height=120 + 44 * len(names))]


def _coordinates(board: Leaderboard, space: Space) -> Chart:
    """Draws parallel coordinates: an axis for the objective and each setting, a line for each finished trial."""
    # The best one last, so that it is drawn above the others.
    entries = board.finished[::-1]
    scores = [entry.value for entry in entries if entry.value is not None]
    axes = {board.objective.name: _axis(Interval(min(scores), max(scores), "linear", integer=False), scores)}
    for name, dimension in space.dimensions.items():
        axes[name] = _axis(dimension, [entry.values[name] for entry in entries])
    data: list[Trace] = []
    for entry, *heights in zip(entries, *(heights for heights, _ in axes.values()), strict=True):
        distance = 1 - heights[0] if board.objective.maximize else heights[0]
        values = {board.objective.name: entry.value, **entry.values}
        hover = "<br>".join(label(f"{name}={shown(value)}") for name, value in values.items())
        hover = f"trial {entry.number}<br>{hover}<extra></extra>"
        color, width = (ACCENT, 3) if entry is board.best else (SOFT, 1.5)
        drawn = line(range(len(axes)), heights, str(entry.number), color, width=width, hover=hover)
        data.append({**drawn, "opacity": 1 - 0.75 * distance, "showlegend": False})
    marked = [(at, text, y) for at, (_, marks) in enumerate(axes.values()) for text, y in marks.items()]
    ends = {"range": [-0.35, len(axes) - 0.75], "gridcolor": "var(--soft)"}
    layout = {
        "annotations": [FIGURES["mark"] | {"x": at, "y": y, "text": label(text)} for at, text, y in marked],
        "hovermode": "closest",
        "xaxis": {"tickvals": list(range(len(axes))), "ticktext": list(map(label, axes)), **ends},
        "yaxis": {"visible": False, "range": [-0.08, 1.08]},
    }
    message = "Each line is a trial, from its result to its settings. The better the trial, the bolder the line."
    return chart("coordinates", "All finished trials", message, {"data": data, "layout": layout}, height=_HEIGHT)


def _axis(dimension: Dimension, values: Sequence[float | str]) -> tuple[list[float], dict[str, float]]:
    """Returns the heights of values on the axis of a dimension, and its labels with their heights, from 0 to 1."""
    if isinstance(dimension, Choice):
        parsed = {text: value_of(text) for text in dimension.values}
        are_numbers = all(isinstance(value, int | float) for value in parsed.values())
        texts = sorted(parsed, key=parsed.__getitem__) if are_numbers else list(parsed)
        marks = {text: float(place) for place, text in enumerate(texts)}
        places = [marks[str(value)] for value in values]
    else:
        scale = math.log if dimension.scale == "log" else float
        marks = {shown(end): scale(end) for end in (dimension.low, dimension.high)}
        places = [scale(float(value)) for value in values]
    low = min(marks.values())
    span = max(marks.values()) - low or 1.0
    return [(place - low) / span for place in places], {text: (place - low) / span for text, place in marks.items()}


def _finish_axes(drawn: Figure, places: Sequence[float], measured: str, reference: float | None) -> None:
    if measured.endswith("/loss"):
        # On a linear axis one much too large learning rate would flatten all other trials into one line.
        drawn["layout"]["yaxis"] |= log_axis(value for trace in drawn["data"] for value in trace["y"])
    if reference is not None and places:
        ends = [min(places) - 0.5, max(places) + 0.5]
        drawn["data"].append(line(ends, [reference, reference], "exact linear", WARM, dash="dash", width=1.5))

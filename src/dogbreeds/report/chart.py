"""A chart of a page: plotly's figures as plain dictionaries, with words and numbers for those who cannot see them.

A figure says what is drawn; the page's script adds fonts, axes and colours. A colour is the name of a variable of the
style sheet, such as `var(--accent)`, so that one figure serves the light theme, the dark one and paper.
"""

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from markupsafe import Markup

from dogbreeds.files import yaml_beside

Figure = dict[str, Any]
Trace = dict[str, Any]
Item = TypeVar("Item")

ACCENT, SOFT, WARM, BAND = "var(--accent)", "var(--series-soft)", "var(--warm)", "var(--band)"
#: Colours of things without an order, such as the parts of a step.
SERIES = tuple(f"var(--series-{number})" for number in range(1, 8))
#: Parts of layouts and traces that do not depend on what is drawn.
FIGURES: Mapping[str, Figure] = yaml_beside(__file__, "figures.yaml")
_DIGITS = 5
_MAX_POINTS = 600
_MAX_MARKERS = 60
_MAX_TICKS = 12


@dataclass(frozen=True)
class Table:
    """The numbers behind a chart, as they are shown; the first column names the rows."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """A chart with all that the page shows around it.

    Attributes:
        name: Unique in its page; the element is called `chart-<name>`.
        message: What it shows, in a sentence; also for screen readers.
        views: Figures that the reader can choose from, by their names; a single one needs none.
        height: In CSS pixels.
    """

    name: str
    title: str
    message: str
    views: Mapping[str, Figure]
    height: int = 320
    table: Table | None = None

    @property
    def json(self) -> Markup:
        """The figures as JSON that is safe inside a script element."""
        text = json.dumps(_plain(list(self.views.values())), allow_nan=False, separators=(",", ":"))
        return Markup(text.replace("<", "\\u003c"))


def chart(
    name: str, title: str, message: str, figure: Figure, *, height: int = 320, table: Table | None = None
) -> Chart:
    return Chart(name, title, message, {"": figure}, height, table)


def figure(data: list[Trace], x: str, y: str, layout: Mapping[str, Any] | None = None) -> Figure:
    """Returns a figure of traces with titles on its axes; axes of the layout are merged into those made here."""
    given = dict(layout or {})
    axes = {axis: {"title": {"text": title}, **given.pop(axis, {})} for axis, title in (("xaxis", x), ("yaxis", y))}
    return {"data": data, "layout": {**axes, **given}}


def line(
    x: Sequence[float],
    y: Sequence[float],
    name: str,
    color: str,
    *,
    dash: str = "solid",
    width: float = 2,
    markers: bool = False,
    hover: str = "%{y:.4~g}",
) -> Trace:
    """Returns a line through points, with gaps where they are not finite; markers if they are few."""
    return {
        "type": "scatter",
        "mode": "lines+markers" if markers and len(x) <= _MAX_MARKERS else "lines",
        "x": list(x),
        "y": list(y),
        "name": label(name),
        "line": {"color": color, "dash": dash, "width": width},
        "marker": {"color": color, "size": 6},
        "hovertemplate": hover,
    }


def points(x: Sequence[Any], y: Sequence[Any], color: str | Sequence[str], hover: str, *, size: int = 10) -> Trace:
    marker, places = {"color": color, "size": size}, {"x": list(x), "y": list(y)}
    return {"type": "scatter", "mode": "markers", **places, "marker": marker, "hovertemplate": hover}


def bars(places: Sequence[Any], lengths: Sequence[float], color: str, hover: str, *, sideways: bool = False) -> Trace:
    """Returns bars at numbers, or at names as `label` returns them; sideways they run from left to right."""
    x, y = (lengths, places) if sideways else (places, lengths)
    kind = {"type": "bar", "orientation": "h" if sideways else "v"}
    return {**kind, "x": list(x), "y": list(y), "marker": {"color": color}, "hovertemplate": hover}


def label(name: str) -> str:
    """Returns a name escaped for plotly, which interprets some HTML."""
    return html.escape(name, quote=False)


def ticks(numbers: Sequence[float]) -> dict[str, Any]:
    """Returns an axis for whole numbers, on which each has a label if they are few."""
    return {"dtick": 1} if len(numbers) <= _MAX_TICKS else {}


def log_axis(values: Iterable[float]) -> dict[str, Any]:
    """Returns a logarithmic axis with about as many labels as a linear one, whatever it spans."""
    positive = [value for value in values if 0 < value < math.inf]
    decades = math.log10(max(positive) / min(positive)) if positive else 1.0
    if decades < 0.7:
        return {"type": "log", "nticks": 6, "tickformat": "~g"}
    return {"type": "log", "dtick": "D2" if decades < 3 else math.ceil(decades / 8), "tickformat": "~g"}


def thinned(items: Sequence[Item], most: int = _MAX_POINTS) -> list[Item]:
    """Returns at most so many of the items, evenly spaced, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(position * (len(items) - 1) / (most - 1))] for position in range(most)]


def columns(pairs: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Returns the first and the second members of pairs, thinned to what a chart can show."""
    kept = thinned(list(pairs))
    return [first for first, _ in kept], [second for _, second in kept]


def _plain(value: Any) -> Any:
    """Returns a value without NaN, infinities (JSON has neither) and digits that nobody sees."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

"""Whether probabilities mean what they say: of photos answered with 80%, 80% should be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dogbreeds.report.chart import ACCENT, SOFT, Chart, Table, chart, line
from dogbreeds.report.formats import percent
from dogbreeds.report.run import Prediction, Run
from dogbreeds.report.sections import Section

# As many as the expected calibration error of metrics.json has.
_BINS = 15


@dataclass(frozen=True)
class Bin:
    """Photos whose answers have about the same probability.

    Attributes:
        low: The bin's lower end.
        high: Its upper end, which belongs to it.
        photos: How many.
        probability: Their mean probability.
        accuracy: Share of right answers.
    """

    low: float
    high: float
    photos: int
    probability: float
    accuracy: float


def calibration(run: Run) -> Section:
    """Returns the section of the reliability diagram, on test photos."""
    tested = [one for one in run.predictions if one.split == "test"]
    if not tested and not run.metrics:
        return Section("calibration", "Calibration", missing="the test photos are answered at the end of a run")
    charts = [reliability(tested)] if tested else []
    return Section("calibration", "Calibration", {"charts": charts, "metrics": run.metrics})


def bins(predictions: Sequence[Prediction], number: int = _BINS) -> list[Bin]:
    """Sorts answers into bins of equal width; those without a photo are left out."""
    probabilities = np.array([one.probability for one in predictions])
    right = np.array([one.right for one in predictions])
    places = np.clip(np.ceil(probabilities * number).astype(int) - 1, 0, number - 1)
    found = []
    for place in np.unique(places):
        inside = places == place
        mean, accuracy = float(probabilities[inside].mean()), float(right[inside].mean())
        found.append(Bin(place / number, (place + 1) / number, int(inside.sum()), mean, accuracy))
    return found


def reliability(predictions: Sequence[Prediction]) -> Chart:
    """Draws accuracy over probability, with the share of photos of each bin below."""
    found = bins(predictions)
    photos = sum(one.photos for one in found)
    farthest = max(found, key=lambda one: one.photos * abs(one.accuracy - one.probability))
    word = "more" if farthest.accuracy > farthest.probability else "less"
    message = (
        f"Where the answers say {percent(farthest.probability, 0)}, {percent(farthest.accuracy, 0)} are right: "
        f"{word} than they promise. On the dashed line they would keep what they promise."
    )
    shares = [one.photos / photos for one in found]
    bars = {
        "type": "bar",
        "x": [(one.low + one.high) / 2 for one in found],
        "y": shares,
        "width": [one.high - one.low for one in found],
        "yaxis": "y2",
        "name": "share of photos",
        "marker": {"color": SOFT, "line": {"color": "var(--surface)", "width": 1}},
        "hovertemplate": "%{y:.1%} of the photos<extra></extra>",
    }
    points = line(
        [one.probability for one in found],
        [one.accuracy for one in found],
        "answers",
        ACCENT,
        markers=True,
        hover="answers of %{x:.1%}: %{y:.1%} are right<extra></extra>",
    )
    layout = {
        "xaxis": {
            "title": {"text": "probability of the answer"},
            "tickformat": ".0%",
            "range": [0, 1.02],
            "anchor": "y2",
        },
        "yaxis": {"title": {"text": "right answers"}, "tickformat": ".0%", "range": [0, 1.04], "domain": [0.32, 1]},
        "yaxis2": {
            "title": {"text": "photos"},
            "tickformat": ".0%",
            "domain": [0, 0.22],
            "rangemode": "tozero",
            "nticks": 3,
        },
        "hovermode": "closest",
    }
    rows = [
        (
            f"{percent(one.low, 0)} to {percent(one.high, 0)}",
            str(one.photos),
            percent(one.probability),
            percent(one.accuracy),
        )
        for one in found
    ]
    ideal = line([0, 1], [0, 1], "as promised", "var(--soft)", dash="dash", width=1.5, hover="")
    return chart(
        "reliability",
        "Reliability of the test answers",
        message,
        {"data": [{**ideal, "hoverinfo": "skip"}, points, bars], "layout": layout},
        height=440,
        table=Table(("probability", "photos", "mean probability", "right"), rows),
    )

"""Whether probabilities mean what they say: of photos predicted with 80%, 80% should be classified correctly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dogbreeds.formats import percent
from dogbreeds.model.paired import interval
from dogbreeds.report.chart import ACCENT, FIGURES, SOFT, Chart, Figure, Table, bars, chart, figure, line
from dogbreeds.report.run import Prediction, Run
from dogbreeds.report.sections import Section

# As many as the expected calibration error of metrics.json has.
_BINS = 15


@dataclass(frozen=True)
class Bin:
    """Photos with a probability of the predicted breed in (low, high]: its mean, and the share that is correct."""

    low: float
    high: float
    photos: int
    probability: float
    accuracy: float


def calibration(run: Run) -> Section:
    tested = [one for one in run.predictions if one.split == "test"]
    if not tested and not run.metrics:
        return Section("calibration", "Calibration", missing="the test photos are classified at the end of a run")
    charts = [reliability(tested)] if tested else []
    return Section("calibration", "Calibration", {"charts": charts, "metrics": run.metrics})


def bins(predictions: Sequence[Prediction]) -> list[Bin]:
    """Sorts predictions into bins of equal width; empty bins are left out."""
    probabilities = np.array([one.probability for one in predictions])
    correct = np.array([one.correct for one in predictions])
    places = np.clip(np.ceil(probabilities * _BINS).astype(int) - 1, 0, _BINS - 1)
    found = []
    for place in np.unique(places):
        inside = places == place
        mean, accuracy = float(probabilities[inside].mean()), float(correct[inside].mean())
        found.append(Bin(place / _BINS, (place + 1) / _BINS, int(inside.sum()), mean, accuracy))
    return found


def reliability(predictions: Sequence[Prediction]) -> Chart:
    found = bins(predictions)
    farthest = max(found, key=lambda one: one.photos * abs(one.accuracy - one.probability))
    low, high = interval(farthest.accuracy, farthest.photos)
    unsure, sure = low > farthest.probability, high < farthest.probability
    word = "too unsure" if unsure else "too sure" if sure else "no clear difference"
    message = f"Of the {farthest.photos:,} photos predicted with {percent(farthest.probability, 0)}, "
    message += f"{percent(farthest.accuracy, 0)} are classified correctly: {word}. Perfect is the dashed line."
    rows = []
    for one in found:
        range_ = f"{percent(one.low, 0)} to {percent(one.high, 0)}"
        rows.append((range_, str(one.photos), percent(one.probability), percent(one.accuracy)))
    table = Table(("probability", "photos", "mean probability", "correct"), rows)
    return chart("reliability", "Reliability on the test photos", message, _diagram(found), height=440, table=table)


def _diagram(found: Sequence[Bin]) -> Figure:
    ideal = line([0, 1], [0, 1], "perfectly calibrated", "var(--soft)", dash="dash", width=1.5, hover="")
    hover = "predicted with %{x:.1%}: %{y:.1%} correct<extra></extra>"
    probabilities, accuracies = [one.probability for one in found], [one.accuracy for one in found]
    reached = line(probabilities, accuracies, "predictions", ACCENT, markers=True, hover=hover)
    photos, middles = sum(one.photos for one in found), [(one.low + one.high) / 2 for one in found]
    counts = [one.photos / photos for one in found]
    shares = bars(middles, counts, SOFT, "%{y:.1%} of the photos<extra></extra>")
    shares |= {"width": [one.high - one.low for one in found], "yaxis": "y2", "name": "share of photos"}
    shares["marker"] = {"color": SOFT, "line": {"color": "var(--surface)", "width": 1}}
    data = [{**ideal, "hoverinfo": "skip"}, reached, shares]
    return figure(data, "probability of the prediction", "classified correctly", FIGURES["reliability"])

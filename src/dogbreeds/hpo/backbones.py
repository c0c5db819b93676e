"""Which backbone? The best trial of each one: how often it is right, how fast it is here, and how large."""

from __future__ import annotations

import logging
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dogbreeds.features.speed import photos_per_second
from dogbreeds.hpo.leaderboard import Entry, Leaderboard
from dogbreeds.hpo.plan import Plan
from dogbreeds.installation import command
from dogbreeds.model.paired import Paired, interval
from dogbreeds.package.predictor import Predictor
from dogbreeds.report.chart import ACCENT, SOFT, Chart, Table, Trace, chart, figure, label
from dogbreeds.report.formats import percent, points, short
from dogbreeds.schema import TrainConfig
from dogbreeds.training.evaluation import describe
from dogbreeds.training.preparation import Preparations, Prepared

log = logging.getLogger(__name__)

# What a backbone is chosen by, on the command line and in conf/hpo.
_NAMES = ("model", "model.backbone")
_TIMED_PHOTOS = 64
_ACCURACY = "val/accuracy"
_BYTES = 4
# A difference that few would pay for with time; more may hide behind a validation split that is too small to show it.
_ACCEPTED_LOSS = 0.01


@dataclass(frozen=True)
class Candidate:
    """A backbone with its best trial.

    Attributes:
        name: As it was typed.
        photos: Validation photos that its accuracy was measured on.
        photos_per_second: Read and computed on this machine.
        megabytes: Of its weights in fp32.
        against_best: Its answers beside those of the best trial; None for that trial, and where they are not known.
        train: The command that trains it with the values of its trial.
    """

    name: str
    entry: Entry
    photos: int
    photos_per_second: float
    megabytes: float
    against_best: Paired | None
    train: str

    @property
    def accuracy(self) -> float:
        return (self.entry.metrics or {})[_ACCURACY]


def candidates(board: Leaderboard, plan: Plan, preparations: Preparations) -> list[Candidate]:
    """Returns the backbones of a search, the best first; none where it had one only."""
    names = [name for name in _NAMES if name in plan.space.dimensions]
    best_of: dict[str, Entry] = {}
    for entry in board.finished:
        best_of.setdefault(" ".join(str(entry.values[name]) for name in names), entry)
    if len(best_of) < 2 or not all(_ACCURACY in (entry.metrics or {}) for entry in best_of.values()):
        return []
    log.info("Timing %d backbones on this machine.", len(best_of))
    return [
        _candidate(name, entry, plan, preparations, None if entry is board.best else board.pairs.get(entry.number))
        for name, entry in best_of.items()
    ]


def _candidate(
    name: str, entry: Entry, plan: Plan, preparations: Preparations, against_best: Paired | None
) -> Candidate:
    config = plan.config(entry.values, Path())
    prepared = preparations.of(config)
    predictor = _predictor(config, prepared)
    trunk = predictor.network.trunk
    photos = prepared.data.folders.splits["valid"]
    rate = photos_per_second(
        predictor.engine, predictor.description.transform, [photo.path for photo in photos[:_TIMED_PHOTOS]]
    )
    megabytes = _BYTES * sum(parameter.numel() for parameter in trunk.parameters()) / 1e6
    # Without the search that found the values, which needs -m.
    own = [one for one in plan.overrides(entry.values) if not one.startswith("hpo=")]
    if config.optimizer == "exact":
        own = [*own, "optimizer=exact"]
    train = " ".join((command("train"), shlex.join(own)))
    return Candidate(name, entry, len(photos), rate, megabytes, against_best, train)


def _predictor(config: TrainConfig, prepared: Prepared) -> Predictor:
    network = prepared.network(config)
    description = describe(prepared.decided(config), prepared, network)
    return Predictor(description, network, prepared.data.device, prepared.store.blobs, one_by_one=False)


def worth_taking(found: Sequence[Candidate]) -> Candidate:
    """Returns the fastest of the backbones that are within a point of the best, and not clearly worse."""
    best, *others = found
    pairs = [(one, one.against_best) for one in others if one.against_best is not None]
    equal = [one for one, pair in pairs if pair.difference >= -_ACCEPTED_LOSS and not pair.clear]
    return max([best, *equal], key=lambda one: one.photos_per_second)


def advice(found: Sequence[Candidate]) -> list[str]:
    """Returns the lines of the terminal about the backbone to take; none where there was one only."""
    if not found:
        return []
    chosen = worth_taking(found)
    return [f"take   {_why(found, chosen)}", f"train  {chosen.train}"]


def _why(found: Sequence[Candidate], chosen: Candidate) -> str:
    best = found[0]
    rate, of_best = (short(round(one.photos_per_second)) for one in (chosen, best))
    if chosen is best:
        return f"{best.name}: the best, and none as good is faster; {rate} photos/s on this machine"
    return (
        f"{chosen.name}: as good as {best.name} within a point, at {rate} photos/s on this machine against {of_best}"
    )


def backbone_chart(found: Sequence[Candidate]) -> Chart:
    """Draws accuracy with its interval over speed, and lists what else decides."""
    chosen = worth_taking(found)
    middle = statistics.geometric_mean(one.photos_per_second for one in found)
    drawn = figure(
        [_point(one, ACCENT if one is chosen else SOFT, left=one.photos_per_second > middle) for one in found],
        "photos per second on this machine",
        "validation accuracy",
        {"xaxis": {"type": "log"}, "yaxis": {"tickformat": ".0%"}, "hovermode": "closest"},
    )
    columns = (
        "backbone",
        "validation accuracy",
        "95% interval",
        "test accuracy",
        "photos/s",
        "MB",
        "to the best",
    )
    table = Table(columns, [_row(one) for one in found])
    message = f"Worth taking is {_why(found, chosen)}. Its command: {chosen.train}"
    return chart("backbones", "Which backbone?", message, drawn, height=380, table=table)


def _point(one: Candidate, color: str, *, left: bool) -> Trace:
    low, high = interval(one.accuracy, one.photos)
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [one.photos_per_second],
        "y": [one.accuracy],
        "text": [label(one.name)],
        "textposition": f"middle {'left' if left else 'right'}",
        "marker": {"color": color, "size": 11},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [high - one.accuracy],
            "arrayminus": [one.accuracy - low],
            "color": color,
        },
        "name": label(one.name),
        "showlegend": False,
        "hovertemplate": f"{label(one.name)}: %{{y:.1%}}, %{{x:.0f}} photos/s<extra></extra>",
    }


def _row(one: Candidate) -> tuple[str, ...]:
    low, high = interval(one.accuracy, one.photos)
    test = (one.entry.metrics or {}).get("test/accuracy")
    return (
        one.name,
        percent(one.accuracy),
        f"{percent(low)} to {percent(high)}",
        "" if test is None else percent(test),
        short(round(one.photos_per_second)),
        f"{one.megabytes:.0f}",
        _against(one.against_best),
    )


def _against(pair: Paired | None) -> str:
    if pair is None:
        return ""
    low, high = pair.interval
    word = "clearly worse" if pair.clear and pair.difference < 0 else "no clear difference"
    return f"{word}: {points(pair.difference)} points ({points(low)} to {points(high)})"

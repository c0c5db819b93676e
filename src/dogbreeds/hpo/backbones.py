"""Which backbone? The best trial of each one: how often it is right, how fast it is here, and how large."""

import logging
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from dogbreeds.features.extract import photos_per_second
from dogbreeds.formats import ends, percent, points, short
from dogbreeds.hpo.answers import comparing
from dogbreeds.hpo.leaderboard import FINISHED, Entry, Leaderboard
from dogbreeds.hpo.plan import Plan
from dogbreeds.installation import command
from dogbreeds.model.paired import Paired, interval
from dogbreeds.package.predictor import Predictor
from dogbreeds.report.chart import ACCENT, SOFT, Chart, Table, Trace, chart, figure, label
from dogbreeds.report.chart import points as markers
from dogbreeds.training.evaluation import describe
from dogbreeds.training.preparation import Preparations

log = logging.getLogger(__name__)

# What a backbone is chosen by, on the command line and in conf/hpo.
_NAMES = ("model", "model.backbone")
_TIMED_PHOTOS = 64
_BYTES = 4
# A difference that few would pay for with time; more may hide behind a validation split that is too small to show it.
_ACCEPTED_LOSS = 0.01


@dataclass(frozen=True)
class Candidate:
    """A backbone with its best trial.

    Attributes:
        name: As it was typed.
        accuracy: Share of the photos that it classifies correctly, of the split that the objective is measured on.
        photos: How many these are.
        photos_per_second: Read and computed on this machine.
        megabytes: Of its weights in fp32.
        against_best: Its answers beside those of the most accurate; None for that one, and where they are not known.
        train: The command that trains it with the values of its trial.
    """

    name: str
    entry: Entry
    accuracy: float
    photos: int
    photos_per_second: float
    megabytes: float
    against_best: Paired | None
    train: str


def candidates(board: Leaderboard, plan: Plan, preparations: Preparations) -> list[Candidate]:
    """Returns the backbones of a search, the most accurate first; none where fewer than two have a finished trial.

    The trial of each is the best by the objective.
    """
    names = [name for name in _NAMES if name in plan.space.dimensions]
    best_of: dict[str, Entry] = {}
    for entry in board.entries:
        name = " ".join(str(entry.values[one]) for one in names)
        # Finished trials come first.
        if best_of.setdefault(name, entry) is entry and entry.state != FINISHED and names:
            log.warning("No trial of %s finished. %s", name, entry.message)
    metric = board.objective.accuracy
    finished = [(name, entry) for name, entry in best_of.items() if metric in entry.metrics]
    if len(finished) < 2:
        return []
    log.info("Timing %d backbones on this machine.", len(finished))
    ranked = sorted(finished, key=lambda one: -one[1].metrics[metric])
    compare, first = comparing(board.directory, board.objective), ranked[0][1]
    pairs = [None if entry is first else compare(entry.number, first.number) for _, entry in ranked]
    return [_candidate(*one, pair, board, plan, preparations) for one, pair in zip(ranked, pairs, strict=True)]


def _candidate(
    name: str, entry: Entry, against_best: Paired | None, board: Leaderboard, plan: Plan, preparations: Preparations
) -> Candidate:
    config, objective = plan.config(entry.values, board.directory / str(entry.number)), board.objective
    prepared = preparations.of(config)
    network = prepared.servable(prepared.network(config))
    description = describe(prepared.decided(config), prepared, network)
    predictor = Predictor(description, network, prepared.data.device, prepared.store.blobs, one_by_one=False)
    photos = prepared.data.folders.splits[objective.split]
    timed = [photo.path for photo in photos[:_TIMED_PHOTOS]]
    rate = photos_per_second(predictor.engine, predictor.description.transform, timed)
    megabytes = _BYTES * sum(parameter.numel() for parameter in predictor.network.trunk.parameters()) / 1e6
    # Without the search that found the values, which needs -m.
    own = [one for one in plan.overrides(entry.values) if not one.startswith("hpo=")]
    own += ["optimizer=exact"] if config.optimizer == "exact" else []
    train = " ".join((command("train"), shlex.join(own)))
    return Candidate(name, entry, entry.metrics[objective.accuracy], len(photos), rate, megabytes, against_best, train)


def worth_taking(found: Sequence[Candidate]) -> Candidate:
    """Returns the fastest of the backbones that are within a point of the most accurate, and not clearly worse."""
    best, *others = found
    pairs = [(one, one.against_best) for one in others if one.against_best is not None]
    equal = [one for one, pair in pairs if pair.difference >= -_ACCEPTED_LOSS and not pair.clear]
    return max([best, *equal], key=lambda one: one.photos_per_second)


def advice(found: Sequence[Candidate]) -> list[str]:
    """Returns the lines of the terminal about the backbone to take; none where there was one only."""
    chosen = worth_taking(found) if found else None
    return [f"take   {_why(found, chosen)}", f"train  {chosen.train}"] if chosen else []


def _why(found: Sequence[Candidate], chosen: Candidate) -> str:
    best = found[0]
    rate, of_best = (short(round(one.photos_per_second)) for one in (chosen, best))
    if chosen is best:
        return f"{best.name}: the best, and none as good is faster; {rate} photos/s on this machine"
    return f"{chosen.name}: as good as {best.name} within a point, at {rate} photos/s on this machine against {of_best}"


def backbone_chart(found: Sequence[Candidate]) -> Chart:
    """Draws accuracy with its interval over speed, and lists what else decides."""
    chosen = worth_taking(found)
    middle = statistics.geometric_mean(one.photos_per_second for one in found)
    colors = [ACCENT if one is chosen else SOFT for one in found]
    data = [_point(*pair, left=pair[0].photos_per_second > middle) for pair in zip(found, colors, strict=True)]
    layout = {"xaxis": {"type": "log"}, "yaxis": {"tickformat": ".0%"}, "hovermode": "closest"}
    drawn = figure(data, "photos per second on this machine", "accuracy", layout)
    columns = ("backbone", "accuracy", "95% interval", "test accuracy", "photos/s", "MB", "to the best")
    table = Table(columns, [_row(one) for one in found])
    message = f"Worth taking is {_why(found, chosen)}. Its command: {chosen.train}"
    return chart("backbones", "Which backbone?", message, drawn, height=380, table=table)


def _point(one: Candidate, color: str, *, left: bool) -> Trace:
    low, high = interval(one.accuracy, one.photos)
    bars = {"array": [high - one.accuracy], "arrayminus": [one.accuracy - low]}
    hover = f"{label(one.name)}: %{{y:.1%}}, %{{x:.0f}} photos/s<extra></extra>"
    return markers([one.photos_per_second], [one.accuracy], color, hover, size=11) | {
        "mode": "markers+text",
        "text": [label(one.name)],
        "textposition": f"middle {'left' if left else 'right'}",
        "error_y": {"type": "data", "symmetric": False, "color": color, **bars},
        "name": label(one.name),
        "showlegend": False,
    }


def _row(one: Candidate) -> tuple[str, ...]:
    low, high = interval(one.accuracy, one.photos)
    test = one.entry.metrics.get("test/accuracy")
    scores = (percent(one.accuracy), f"{percent(low)} to {percent(high)}", "" if test is None else percent(test))
    costs = (short(round(one.photos_per_second)), f"{one.megabytes:.0f}")
    return (one.name, *scores, *costs, _against(one.against_best))


def _against(pair: Paired | None) -> str:
    if pair is None:
        return ""
    word = "clearly worse" if pair.clear and pair.difference < 0 else "no clear difference"
    return f"{word}: {points(pair.difference)} points ({ends(pair.interval)})"

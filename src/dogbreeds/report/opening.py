"""The first lines of a page: how good the model is, what is wrong, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.report.formats import clock, counted, moment, percent
from dogbreeds.report.run import Run
from dogbreeds.report.sections.rules import worst

# A difference of two standard errors is more than chance explains.
_ERRORS = 2.0
_LEAST_VARIANCE = 0.01
# What the advice of a rule comes to: a factor of the learning rate, or a setting.
_LEARNING_RATES = {"ExplodingTensor": 0.01, "LossNotDecreasing": 0.1, "VanishingGradient": 10.0}
_SETTINGS = {"Overfit": "data.views=4", "ClassImbalance": "model.class_weights=balanced"}
_CHECKPOINT = "checkpoints/last.ckpt"
_DEFAULT_WEIGHTS = "imagenet"


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a run.

    Attributes:
        title: What.
        text: What it means.
        place: The section that has more about it; empty where none has.
    """

    title: str
    text: str
    place: str = ""


@dataclass(frozen=True)
class Opening:
    """What a reader learns first.

    Attributes:
        state: `finished`, `running` or `stopped`.
        standing: The same in words, with the time.
        verdict: How good it is, in one sentence.
        problems: What is wrong, the worst first.
        advice: What to do next.
        commands: What to type for it.
    """

    state: str
    standing: str
    verdict: str
    problems: list[Problem]
    advice: str
    commands: list[str]


def opening(run: Run, *, live: bool, now: float) -> Opening:
    """Returns the first lines.

    Args:
        run: What is known.
        live: The run goes on.
        now: Seconds since 1970.
    """
    state = "running" if live else "finished" if run.metrics else "stopped"
    return Opening(state, _standing(run, state, now), _verdict(run), _problems(run), *_next(run, state))


def _standing(run: Run, state: str, now: float) -> str:
    if state == "running":
        epoch = max(
            [row.epoch for row in run.record.rows[-1:]] + [int(row["epoch"]) for row in run.history[-1:]], default=0
        )
        where = f"epoch {epoch} of {run.config.get('epochs')}" if epoch else "before the first epoch"
        return f"running, {where}, as of {clock(now)}"
    if state == "stopped":
        return f"did not finish: what there is up to {moment(run.last_at)}"
    return f"finished {moment(run.last_at)}"


def _verdict(run: Run) -> str:
    metrics = run.metrics
    if not metrics:
        if not run.history:
            return "Nothing can be said yet: no epoch has ended."
        best = max(run.history, key=lambda row: row["val/accuracy"])
        accuracy = best["val/accuracy"]
        return f"So far {percent(accuracy)} of the validation photos are answered rightly{_chance(run, accuracy)}."
    accuracy, photos = metrics["test/accuracy"], metrics["images"]["test"]
    begin = f"{percent(accuracy)} of {counted(photos, 'test photo')} are answered rightly{_chance(run, accuracy)}"
    if "reference/test_accuracy" not in metrics:
        return f"{begin}."
    exact = metrics["reference/test_accuracy"]
    margin = standard_error(exact, photos) * _ERRORS
    if accuracy < exact - margin:
        return f"{begin}; the exact linear reference reaches {percent(exact)}."
    word = "clearly more than" if accuracy > exact + margin else "no clear difference from"
    return f"{begin}; {word} the exact linear reference ({percent(exact)})."


def _chance(run: Run, accuracy: float) -> str:
    classes = len(run.classes)
    if not classes:
        return ""
    times = accuracy * classes
    if times < 1.5:
        return ", hardly more than by chance"
    return f", {times:.0f} times chance"


def standard_error(share: float, photos: int) -> float:
    """Returns the standard error of a share that was measured on so many photos, at least that of a share of 1%."""
    return math.sqrt(max(share * (1 - share), _LEAST_VARIANCE) / max(1, photos))


def is_below_reference(metrics: Mapping[str, Any]) -> bool:
    """Says whether the trained head stays behind the exact solution on validation photos by more than chance."""
    exact = metrics.get("reference/val_accuracy")
    if exact is None:
        return False
    limit: float = exact - _ERRORS * standard_error(exact, metrics["images"]["valid"])
    return bool(metrics["val/accuracy"] < limit)


def _problems(run: Run) -> list[Problem]:
    facts, metrics = run.record.facts, run.metrics
    found = []
    if metrics.get("debug", facts.debug):
        found.append(Problem("A debugging run on one batch.", "Its numbers mean nothing."))
    if not metrics.get("pretrained", facts.pretrained):
        text = "It is not pretrained, so this is a demonstration: expect far better with model.weights=imagenet."
        found.append(Problem("The backbone has random weights.", text))
    leaks = metrics.get("in_several_splits", facts.in_several_splits)
    if leaks:
        title = (
            f"{leaks} photos stand in more than one split." if leaks > 1 else "1 photo stands in more than one split."
        )
        found.append(Problem(title, "The scores flatter by as much as the model remembers them.", "data"))
    for rule in sorted(run.fired, key=lambda rule: rule["name"] != worst(run.fired)["name"]):
        times = f", and {counted(rule['count'] - 1, 'more finding')}" if rule["count"] > 1 else ""
        found.append(Problem(f"{rule['name']}:", f"{run.shown(rule['message'])}{times}.", "rules"))
    if metrics and is_below_reference(metrics):
        text = (
            f"It reaches {percent(metrics['val/accuracy'])} of the validation photos where the exact linear solution "
            f"reaches {percent(metrics['reference/val_accuracy'])}."
        )
        found.append(Problem("The trained head is not at its optimum.", text, "learning"))
    unreadable = metrics.get("unreadable", facts.unreadable)
    if unreadable:
        title = f"{counted(unreadable, 'unreadable file')} left out."
        found.append(Problem(title, "The log of the run names them.", "data"))
    return found


def _next(run: Run, state: str) -> tuple[str, list[str]]:
    """Returns advice and commands: those of what is wrong first."""
    metrics, again = run.metrics, " ".join(_own(run))
    if state == "running":
        return "Wait: the page brings itself up to date.", []
    if state == "stopped":
        if (run.directory / _CHECKPOINT).is_file():
            resume = override("resume", run.directory)
            return "Continue it: the result will be the same as without the stop.", [f"{command('train')} {resume}"]
        return "Start it again: it stopped before there was anything to continue.", [f"{command('train')} {again}"]
    if metrics.get("debug"):
        return "Run it on all photos.", [f"{command('train')} {again}"]
    if metrics.get("in_several_splits"):
        return "Leave each photo in one split, then train again.", [f"{command('train')} {again}"]
    if not metrics.get("pretrained", True):
        own = [one for one in _own(run) if not one.startswith("model.weights=")]
        return "Train on pretrained weights.", [f"{command('train')} {' '.join(own)}"]
    if run.fired:
        remedy = _remedy(worst(run.fired)["name"], run.config)
        return worst(run.fired)["advice"], [f"{command('train')} {again} {remedy}"] if remedy else []
    ask = f"{command('predict')} {override('package', run.directory)} images='photos/*.jpg'"
    if is_below_reference(metrics):
        return "Search for a better learning rate and batch size.", [f"{command('train')} -m hpo=bayes {again}"]
    return "Ask it about your own photos, or search for better settings.", [
        ask,
        f"{command('train')} -m hpo=bayes {again}",
    ]


def _remedy(rule: str, config: Mapping[str, Any]) -> str:
    """Returns the override that follows a rule's advice; nothing where that is no single setting."""
    if rule in _LEARNING_RATES:
        return f"lr={config['lr'] * _LEARNING_RATES[rule]:g}"
    return _SETTINGS.get(rule, "")


def _own(run: Run) -> list[str]:
    """Returns the overrides that name the same photos and the same backbone."""
    model = run.config["model"]
    found = [override("data.dir", run.config["data"]["dir"]), override("model", model["backbone"])]
    weights = model["weights"]
    return found if weights == _DEFAULT_WEIGHTS else [*found, override("model.weights", weights)]

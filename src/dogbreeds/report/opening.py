"""The first lines of a page: how good the model is, what is wrong, and what to do next."""

from dataclasses import dataclass

from dogbreeds.debug.rules.results import HeadBelowReference, against_exact, learned_from
from dogbreeds.files import lines_beside
from dogbreeds.formats import clock, counted, moment, percent
from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.report.against_exact import by_how_much, difference, exact_command, is_below, own
from dogbreeds.report.run import Run
from dogbreeds.report.sections.rules import worst
from dogbreeds.run_directory import CHECKPOINTS

# The setting that a rule's advice comes to: a factor of the learning rate, or an override.
_LEARNING_RATES = {"ExplodingTensor": 0.01, "LossNotDecreasing": 0.1, "VanishingGradient": 10.0}
_SETTINGS = {"Overfit": "data.views=4", "ClassImbalance": "model.class_weights=balanced"}
_MAX_NAMED = 3
_BELOW_REFERENCE = HeadBelowReference.__name__


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a run; `place` is the section that says more about it, if one does."""

    title: str
    text: str
    place: str = ""


@dataclass(frozen=True)
class Opening:
    """What a reader learns first: `finished`, `running` or `stopped`, in words too, and problems, the worst first."""

    state: str
    standing: str
    verdict: str
    problems: list[Problem]
    advice: str
    commands: list[str]


def opening(run: Run, *, live: bool, now: float) -> Opening:
    state = "running" if live else "finished" if run.metrics else "stopped"
    return Opening(state, _standing(run, state, now), _verdict(run), _problems(run), *_next(run, state))


def _standing(run: Run, state: str, now: float) -> str:
    if state == "running":
        rows, history = run.record.rows[-1:], run.history[-1:]
        epoch = max([row.epoch for row in rows] + [int(row["epoch"]) for row in history], default=0)
        where = f"epoch {epoch} of {run.config.get('epochs')}" if epoch else "before the first epoch"
        return f"running, {where}, as of {clock(now)}"
    return f"{'did not finish; last written' if state == 'stopped' else 'finished'} {moment(run.last_at)}"


def _verdict(run: Run) -> str:
    words = {"percent": percent, "counted": counted, "difference": difference, "learned_from": learned_from}
    return lines_beside(__file__, "verdict.txt", run=run, pair=against_exact(run.metrics, "test"), **words)[-1]


def _problems(run: Run) -> list[Problem]:
    facts, metrics = run.record.facts, run.metrics
    found = []
    if metrics.get("debug", facts.debug):
        found.append(Problem("A debugging run on one batch.", "Its numbers mean nothing."))
    if not metrics.get("pretrained", facts.pretrained):
        text = "It is not pretrained, so this is a demonstration: expect far better with model.weights=imagenet."
        found.append(Problem("The backbone has random weights.", text))
    if leaks := metrics.get("in_several_splits", facts.in_several_splits):
        title = f"{counted(leaks, 'photo appears', 'photos appear')} in more than one split."
        found.append(Problem(title, "The scores are inflated.", "data"))
    for rule in sorted(run.fired, key=lambda rule: rule["name"] != worst(run.fired)["name"]):
        if (rule["name"] == _BELOW_REFERENCE and is_below(metrics)) or (rule["name"] == "SplitLeakage" and leaks):
            continue
        times = f", and {counted(rule['count'] - 1, 'more finding')}" if rule["count"] > 1 else ""
        found.append(Problem(f"{rule['name']}:", f"{run.shown(rule['message'])}{times}.", "rules"))
    if is_below(metrics):
        text = f"By {by_how_much(metrics)}."
        found.append(Problem("The exact linear solution is better than the trained head.", text, "numbers"))
    if unreadable := metrics.get("unreadable", facts.unreadable):
        title = f"{counted(unreadable, 'photo was', 'photos were')} left out, since they cannot be read:"
        first = ", ".join(row["path"] for row in run.unused[: min(unreadable, _MAX_NAMED)])
        found.append(Problem(title, f"{first}{', ...' * (unreadable > _MAX_NAMED)}", "data"))
    return found


def _next(run: Run, state: str) -> tuple[str, list[str]]:
    """Returns advice and commands, about the worst problem if there is one."""
    metrics, same = run.metrics, own(run.config)
    if state == "running":
        return "Wait: the page reloads itself.", []
    if state == "stopped":
        if (run.directory / CHECKPOINTS / "last.ckpt").is_file():
            resume = override("resume", run.directory)
            return "Resume it: the result is the same as without the stop.", [_train(resume)]
        return "Start it again: it stopped before there was anything to resume.", [_train(*same)]
    if metrics.get("debug"):
        return "Run it on all photos.", [_train(*same)]
    if metrics.get("in_several_splits"):
        return "Keep each photo in one split only, then train again.", [_train(*same)]
    if not metrics.get("pretrained", True):
        pretrained = [one for one in same if not one.startswith("model.weights=")]
        return "Train on pretrained weights.", [_train(*pretrained)]
    exact = exact_command(run.config, metrics)
    if others := [rule for rule in run.fired if not (exact and rule["name"] == _BELOW_REFERENCE)]:
        name, factor = worst(others)["name"], _LEARNING_RATES.get(worst(others)["name"])
        remedy = f"lr={run.config['lr'] * factor:g}" if factor else _SETTINGS.get(name)
        return worst(others)["advice"], [_train(*same, remedy)] if remedy else []
    if exact:
        return "Take the exact linear solution: the same features, solved without a learning rate.", [exact]
    predict = f"{command('predict')} {override('package', run.directory)} images=photos"
    search = _train("-m", "hpo=bayes", *same)
    return "Classify your own photos, or search for better settings.", [predict, search]


def _train(*arguments: str) -> str:
    return " ".join((command("train"), *arguments))

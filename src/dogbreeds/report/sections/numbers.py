"""The key numbers of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dogbreeds.debug.rules.results import against_exact, learned_from
from dogbreeds.model.paired import interval
from dogbreeds.report.against_exact import difference, settling
from dogbreeds.report.formats import counted, duration, percent
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section
from dogbreeds.report.sections.learning import best_epoch

_TOP = 5


@dataclass(frozen=True)
class Number:
    """A number with its name and a note."""

    value: str
    name: str
    note: str = ""


def numbers(run: Run) -> Section:
    found = [*_quality(run.metrics), *_times(run.metrics)] if run.metrics else _so_far(run)
    missing = "" if found else "no epoch has finished yet"
    return Section("numbers", "Key numbers", {"numbers": found, "exact": _exact(run.metrics)}, missing)


def _quality(metrics: Mapping[str, Any]) -> list[Number]:
    photos = metrics["images"]["test"]
    note = f"{_between(metrics['test/accuracy'], photos)} with 95% confidence, on {counted(photos, 'photo')}"
    found = [Number(percent(metrics["test/accuracy"]), "Test accuracy", note)]
    if len(metrics["classes"]) > _TOP:
        top = metrics["test/top5_accuracy"]
        note = f"{_between(top, photos)}; the right breed is among the five most probable"
        found.append(Number(percent(top), "Top-5 accuracy", note))
    valid, validated = metrics["val/accuracy"], metrics["images"]["valid"]
    note = f"{_between(valid, validated)}, on {counted(validated, 'photo')}"
    found.append(Number(percent(valid), "Validation accuracy", note))
    if "reference/test_accuracy" in metrics:
        valid = percent(metrics["reference/val_accuracy"])
        note = f"test accuracy of the linear head solved exactly{learned_from(metrics)}; {valid} on validation photos"
        found.append(Number(percent(metrics["reference/test_accuracy"]), "Exact linear reference", note))
    found.append(Number(f"{metrics['test/macro_f1']:.3f}", "Macro F1", "every breed counts equally"))
    before = metrics["test/calibration_error_uncalibrated"]
    note = f"{before:.3f} before scaling; temperature {metrics['temperature']:.2f}"
    found.append(Number(f"{metrics['test/calibration_error']:.3f}", "Calibration error", note))
    note = f"cross-entropy; {metrics['val/loss']:.3f} on validation photos"
    return [*found, Number(f"{metrics['test/loss']:.3f}", "Test loss", note)]


def _between(share: float, photos: int) -> str:
    low, high = interval(share, photos)
    return f"{percent(low)} to {percent(high)}"


def _exact(metrics: Mapping[str, Any]) -> str:
    """Returns the trained head and the exact solution on the same test photos, in words."""
    pair = against_exact(metrics, "test")
    if pair is None:
        return ""
    found = (
        f"On the same test photos the exact linear solution alone is right about {pair.second}, the trained head "
        f"alone about {pair.first}"
    )
    if pair.difference:
        found += f": the trained head has {difference(pair)}"
    more = settling(pair)
    return f"{found}; {more}." if more else f"{found}."


def _times(metrics: Mapping[str, Any]) -> list[Number]:
    seconds, features = metrics["seconds"], metrics["features"]
    found = []
    if "training" in seconds:
        found.append(Number(duration(seconds["training"]), "Training", counted(metrics["epochs"], "epoch")))
    if "features" in seconds:
        note = f"{features['computed']:,} computed, {features['reused']:,} reused, {features['precision']}"
        found.append(Number(duration(seconds["features"]), "Features", note))
    if "total" in seconds:
        found.append(Number(duration(seconds["total"]), "Whole run"))
    return found


def _so_far(run: Run) -> list[Number]:
    if not run.history:
        return []
    best, last = run.history[best_epoch(run.history)], run.history[-1]
    note = f"epoch {best['epoch']:.0f}"
    return [
        Number(f"{last['epoch']:.0f}", "Epochs so far", f"of {run.config.get('epochs', 0)}"),
        Number(f"{best['val/loss']:.4f}", "Lowest validation loss", note),
        Number(percent(best["val/accuracy"]), "Validation accuracy", note),
        Number(f"{last['train/loss']:.4f}", "Training loss", "of the last epoch"),
    ]

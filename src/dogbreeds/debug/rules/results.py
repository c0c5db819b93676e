"""Rules of our own over the results of a run: they know the exact reference, the splits and the search."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dogbreeds.debug.record import Record
from dogbreeds.debug.rules.verdict import Rule, Verdict, not_applicable
from dogbreeds.formats import counted
from dogbreeds.model.paired import Paired


def against_exact(metrics: Mapping[str, Any], split: str) -> Paired | None:
    """Compares the trained head with the exact solution, in this order, on the split `val` or `test`.

    None in runs that are not scored, or were before the photos were counted.
    """
    if f"reference/{split}_missed" not in metrics:
        return None
    missed, only = metrics[f"reference/{split}_missed"], metrics[f"reference/{split}_only"]
    return Paired(missed, only, metrics["images"]["valid" if split == "val" else split])


def learned_from(metrics: Mapping[str, Any]) -> str:
    """Returns what the exact solution was learned from, where that is not all training photos; begins with a comma."""
    photos, train = metrics.get("reference/photos"), metrics.get("reference/training_photos")
    return "" if photos == train else f", on {photos:,} of {train:,} training photos"


@dataclass(frozen=True)
class HeadBelowReference(Rule):
    """The trained head classifies fewer validation photos correctly than the exact linear solution.

    By the exact test of McNemar on the photos that only one of them gets right, at this `level`.
    """

    level: float = 0.05

    def judge(self, record: Record) -> Verdict:
        pair = against_exact(record.metrics, "val")
        if pair is None:
            return not_applicable("no scores yet")
        if pair.difference >= 0 or pair.p_value >= self.level:
            return self.verdict([])
        reached, exact = (record.metrics[name] for name in ("val/accuracy", "reference/val_accuracy"))
        message = (
            f"the trained head classifies {reached:.1%} of the validation photos correctly, the exact linear "
            f"solution {exact:.1%}{learned_from(record.metrics)}: it alone is right about {pair.second}, the trained "
            f"head alone about {pair.first}"
        )
        advice = f"Take the exact solution: optimizer=exact weight_decay={record.metrics['reference/strength']:g}."
        return self.verdict([(record.last_step, message)], advice)


@dataclass(frozen=True)
class SplitLeakage(Rule):
    """The same photos appear in more than one split, so that the scores are inflated.

    `photos` of them are allowed.
    """

    photos: int = 0

    def judge(self, record: Record) -> Verdict:
        if not record.facts.images:
            return not_applicable("no photos yet")
        copies = record.facts.in_several_splits
        subject = counted(copies, "photo appears", "photos appear")
        return self.verdict([(0, f"{subject} in more than one split")] if copies > self.photos else [])


@dataclass(frozen=True)
class ClassNeverPredicted(Rule):
    """A breed is never predicted, although there are photos of it.

    Breeds with fewer than `photos` validation photos are not judged.
    """

    photos: int = 5

    def judge(self, record: Record) -> Verdict:
        if "valid" not in record.confusion:
            return not_applicable("the validation photos are not classified yet")
        photos, answers = (record.confusion["valid"].sum(axis=axis).tolist() for axis in (1, 0))
        found = [
            (record.last_step, f"{name} is never predicted, although {shown} photos show it")
            for name, shown, times in zip(record.facts.class_counts, photos, answers, strict=False)
            if shown >= self.photos and not times
        ]
        return self.verdict(found)


@dataclass(frozen=True)
class SearchedRangeEdge(Rule):
    """A search found its best value at the edge of a range: better ones may lie beyond.

    At each end, `share` of the range counts as its edge.
    """

    share: float = 0.05

    def judge(self, record: Record) -> Verdict:
        if not record.facts.searched:
            return not_applicable("not the best trial of a search over a range of numbers")
        found = []
        for name, searched in record.facts.searched.items():
            # Where the value lies in its range, from 0 to 1, on the scale that was searched.
            numbers = searched.low, searched.high, searched.value
            low, high, value = (math.log(number) for number in numbers) if searched.log else numbers
            position = (value - low) / (high - low)
            if not self.share <= position <= 1 - self.share:
                end = "lower" if position < self.share else "upper"
                range_ = f"{searched.low:g} to {searched.high:g}"
                found.append((record.last_step, f"{name}={searched.value:.4g} is at the {end} end of {range_}"))
        return self.verdict(found)

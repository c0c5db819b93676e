"""Rules of our own over the results of a run: they know the exact reference, the splits and the search."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dogbreeds.debug.record import Record
from dogbreeds.debug.rules.verdict import Verdict, not_applicable, verdict

# Of a share of 1%: an accuracy of 100% on few photos is not certain either.
_MIN_VARIANCE = 0.01


def margin(accuracy: float, photos: int, standard_errors: float = 2.0) -> float:
    """Returns the difference from an accuracy that chance explains: some of its standard errors sqrt(p (1 - p) / n).

    Here p is the accuracy, and n the number of photos that it was measured on.
    """
    return standard_errors * math.sqrt(max(accuracy * (1 - accuracy), _MIN_VARIANCE) / max(1, photos))


@dataclass(frozen=True)
class HeadBelowReference:
    """The trained head classifies fewer validation photos correctly than the exact linear solution.

    The difference that is allowed is that of `margin`.
    """

    standard_errors: float = 2.0

    def judge(self, record: Record) -> Verdict:
        reached = record.metrics.get("val/accuracy")
        reference = record.facts.reference.get("reference/val_accuracy")
        photos = record.facts.images.get("valid", 0)
        if reached is None or reference is None or not photos:
            return not_applicable("no scores yet")
        if reached >= reference - margin(reference, photos, self.standard_errors):
            return verdict([], "")
        message = (
            f"the trained head classifies {reached:.1%} of the validation photos correctly, "
            f"the exact linear solution {reference:.1%}"
        )
        return verdict([(record.last_step, message)], "Search for a better learning rate and batch size.")


@dataclass(frozen=True)
class SplitLeakage:
    """The same photos appear in more than one split, so that the scores are inflated.

    `photos` of them are allowed.
    """

    photos: int = 0

    def judge(self, record: Record) -> Verdict:
        if not record.facts.images:
            return not_applicable("no photos yet")
        copies = record.facts.in_several_splits
        subject = "1 photo appears" if copies == 1 else f"{copies} photos appear"
        found = [(0, f"{subject} in more than one split")] if copies > self.photos else []
        return verdict(found, "Remove the copies that the log names, then train again.")


@dataclass(frozen=True)
class ClassNeverPredicted:
    """A breed is never predicted, although there are photos of it.

    Breeds with fewer than `photos` validation photos are not judged.
    """

    photos: int = 5

    def judge(self, record: Record) -> Verdict:
        confusion, names = record.metrics.get("val/confusion", ()), list(record.facts.class_counts)
        if not confusion:
            return not_applicable("the validation photos are not classified yet")
        found = [
            (record.last_step, f"{name} is never predicted, although {sum(confusion[column])} photos show it")
            for column, name in enumerate(names)
            if sum(confusion[column]) >= self.photos and not any(row[column] for row in confusion)
        ]
        return verdict(found, "Try model.class_weights=balanced, more photos of that breed, or a smaller lr.")


@dataclass(frozen=True)
class SearchedRangeEdge:
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
        return verdict(found, "Search a wider range.")

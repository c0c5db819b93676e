"""Rules of our own over what a run brought: they know the exact reference, the splits and the search."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dogbreeds.debug.record import Record, Searched
from dogbreeds.debug.rules.verdict import Verdict, too_little, verdict


@dataclass(frozen=True)
class HeadBelowReference:
    """The trained head stays behind the exact linear solution on the validation photos.

    Attributes:
        standard_errors: How far behind is still chance: multiples of sqrt(p (1 - p) / n), for a reference of
            accuracy p on n photos.
    """

    standard_errors: float = 2.0

    def judge(self, record: Record) -> Verdict:
        """Compares the two accuracies."""
        reached = record.metrics.get("val/accuracy")
        reference = record.facts.reference.get("reference/val_accuracy")
        photos = record.facts.images.get("valid", 0)
        if reached is None or reference is None or not photos:
            return too_little("no scores yet")
        error = math.sqrt(max(reference * (1 - reference), 0.01) / photos)
        if reached >= reference - self.standard_errors * error:
            return verdict([], "")
        message = f"the head reaches {reached:.3f} on validation photos, the exact linear solution {reference:.3f}"
        return verdict([(record.last_step, message)], "Try more epochs, a smaller batch_size or another lr.")


@dataclass(frozen=True)
class SplitLeakage:
    """The same photos stand in more than one split, so that the scores flatter.

    Attributes:
        photos: How many are still fine.
    """

    photos: int = 0

    def judge(self, record: Record) -> Verdict:
        """Looks at what the index of the photos found."""
        if not record.facts.images:
            return too_little("no photos yet")
        found = record.facts.in_several_splits
        if found <= self.photos:
            return verdict([], "")
        message = f"{found} photos stand in more than one split"
        return verdict([(0, message)], "Remove the copies that the log names, and train once more.")


@dataclass(frozen=True)
class ClassNeverPredicted:
    """A breed is never the answer, although there are photos of it.

    Attributes:
        photos: Validation photos of a breed below which nothing is said of it.
    """

    photos: int = 5

    def judge(self, record: Record) -> Verdict:
        """Looks at the columns of the confusion matrix of the validation photos."""
        confusion, names = record.metrics.get("val/confusion", ()), list(record.facts.class_counts)
        if not confusion:
            return too_little("no answers to validation photos yet")
        found = [
            (record.last_step, f"{name} is never the answer, although {sum(confusion[column])} photos show it")
            for column, name in enumerate(names)
            if sum(confusion[column]) >= self.photos and not any(row[column] for row in confusion)
        ]
        return verdict(found, "Try model.class_weights=balanced, more photos of that breed, or a smaller lr.")


@dataclass(frozen=True)
class SearchedRangeEdge:
    """A search found its best value at the edge of what it searched: better ones may lie beyond.

    Attributes:
        share: Of the range that counts as its edge, at each end.
    """

    share: float = 0.05

    def judge(self, record: Record) -> Verdict:
        """Looks at each number that was searched."""
        if not record.facts.searched:
            return too_little("not the best trial of a search over a range of numbers")
        found = []
        for name, searched in record.facts.searched.items():
            place = _place(searched)
            if not self.share <= place <= 1 - self.share:
                end = "lower" if place < self.share else "upper"
                range_ = f"{searched.least:g} to {searched.most:g}"
                found.append((record.last_step, f"{name}={searched.taken:.4g} is at the {end} end of {range_}"))
        return verdict(found, "Search a wider range.")


def _place(searched: Searched) -> float:
    """Where the value lies in its range, from 0 to 1, on the scale that was searched."""
    ends = searched.least, searched.most, searched.taken
    least, most, taken = (math.log(end) for end in ends) if searched.log else ends
    return (taken - least) / (most - least)

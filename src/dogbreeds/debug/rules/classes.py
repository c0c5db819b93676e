"""Rules over classes and time: ClassImbalance, Confusion, StalledTrainingRule."""

from dataclasses import dataclass

import numpy as np

from dogbreeds.debug.measurements import START_UP
from dogbreeds.debug.record import Record
from dogbreeds.debug.rules.verdict import Rule, Verdict, not_applicable


@dataclass(frozen=True)
class ClassImbalance(Rule):
    """Some classes have far fewer photos than others, or are misclassified far more often.

    Attributes:
        threshold_imbalance: The largest allowed ratio of the most and the least frequent class.
        threshold_misprediction: The largest allowed share of misclassified photos of a class.
        samples: Training photos that are needed for a judgement.
    """

    threshold_imbalance: float = 10.0
    threshold_misprediction: float = 0.7
    samples: int = 500

    def judge(self, record: Record) -> Verdict:
        counts = record.facts.class_counts
        if sum(counts.values()) < self.samples:
            return not_applicable(f"fewer than {self.samples} training photos")
        messages = []
        most, fewest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        if counts[most] > self.threshold_imbalance * counts[fewest]:
            messages.append(f"{most} has {counts[most]} training photos and {fewest} {counts[fewest]}")
        for position, (name, row) in enumerate(zip(counts, record.confusion.get("valid", ()), strict=False)):
            wrong = 1 - row[position] / row.sum() if row.any() else 0.0
            if wrong > self.threshold_misprediction:
                messages.append(f"{wrong:.0%} of the validation photos of {name} are misclassified")
        return self.verdict([(record.last_step, message) for message in messages])


@dataclass(frozen=True)
class Confusion(Rule):
    """A class is classified correctly too rarely, or mistaken for another too often.

    That is less than `min_diag` of its photos, or more than `max_off_diag` of them for one other class.
    """

    min_diag: float = 0.9
    max_off_diag: float = 0.1

    def judge(self, record: Record) -> Verdict:
        """Reads the confusion matrix of the validation photos; the worst finding comes first."""
        if "valid" not in record.confusion:
            return not_applicable("the validation photos are not classified yet")
        photos, names = record.confusion["valid"].sum(axis=1), list(record.facts.class_counts)
        shares = record.confusion["valid"] / photos.clip(1)[:, None]
        beyond = shares - self.max_off_diag
        np.fill_diagonal(beyond, np.where(photos, self.min_diag - shares.diagonal(), -1))
        messages = []
        for row, column in np.argwhere(beyond > 0).tolist():
            how = "correctly" if row == column else f"as {names[column]}"
            messages.append((-beyond[row, column], f"{shares[row, column]:.0%} of {names[row]} are classified {how}"))
        return self.verdict([(record.last_step, text) for _, text in sorted(messages)])


@dataclass(frozen=True)
class StalledTrainingRule(Rule):
    """Nothing was recorded for a long time, although the run had not ended.

    More than `threshold` seconds pass between two recorded steps.
    """

    threshold: float = 1800.0

    def judge(self, record: Record) -> Verdict:
        """Compares the times of recorded steps with each other and, while the run lasts, with now."""
        times = [(row.step, row.at) for row in record.rows]
        if not times:
            return not_applicable("no step yet")
        # The time between the end of a run and its resumption does not count.
        starts = [phase.began for phase in record.measurements.phases if phase.name == START_UP]
        ends = [*times[1:], (times[-1][0], record.now)] if record.now is not None else times[1:]
        found = [
            (step, f"no step for {later - earlier:.0f} s after step {before}")
            for (before, earlier), (step, later) in zip(times, ends, strict=False)
            if later - earlier > self.threshold and not any(earlier < start < later for start in starts)
        ]
        return self.verdict(found)

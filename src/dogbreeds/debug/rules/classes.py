"""Rules over classes and time: ClassImbalance, Confusion, StalledTrainingRule.

Names, parameters, defaults and definitions are those of the developer guide's list of built-in Debugger rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from dogbreeds.debug.measurements import START_UP
from dogbreeds.debug.record import Record
from dogbreeds.debug.rules.verdict import Verdict, too_little, verdict


@dataclass(frozen=True)
class ClassImbalance:
    """Some classes have far fewer photos than others, or are answered far more wrongly.

    Attributes:
        threshold_imbalance: The largest ratio of the most and the least frequent class.
        threshold_misprediction: The largest share of wrong answers of a class.
        samples: Training photos below which nothing is said.
    """

    threshold_imbalance: float = 10.0
    threshold_misprediction: float = 0.7
    samples: int = 500

    def judge(self, record: Record) -> Verdict:
        """Counts training photos, and wrong answers to validation photos."""
        counts = record.facts.class_counts
        if sum(counts.values()) < self.samples:
            return too_little(f"fewer than {self.samples} training photos")
        messages = []
        most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        if counts[most] > self.threshold_imbalance * counts[least]:
            messages.append(f"{most} has {counts[most]} training photos and {least} {counts[least]}")
        for name, row in zip(counts, record.metrics.get("val/confusion", ()), strict=False):
            right = row[list(counts).index(name)]
            wrong = 1 - right / sum(row) if sum(row) else 0.0
            if wrong > self.threshold_misprediction:
                messages.append(f"{wrong:.0%} of the validation photos of {name} are answered wrongly")
        advice = "Try model.class_weights=balanced, or more photos of the rare classes."
        return verdict([(record.last_step, message) for message in messages], advice)


@dataclass(frozen=True)
class Confusion:
    """A class is answered rightly too seldom, or taken for another too often.

    Attributes:
        min_diag: The least share of right answers of a class.
        max_off_diag: The largest share of a class that is answered as one other.
    """

    min_diag: float = 0.9
    max_off_diag: float = 0.1

    def judge(self, record: Record) -> Verdict:
        """Looks at the confusion matrix of the validation photos."""
        confusion, names = record.metrics.get("val/confusion", ()), list(record.facts.class_counts)
        if not confusion:
            return too_little("no answers to validation photos yet")
        messages = []
        for row, counts in enumerate(confusion):
            photos = sum(counts)
            for column, count in enumerate(counts):
                share = count / photos if photos else 0.0
                if row == column and photos and share < self.min_diag:
                    messages.append((share - self.min_diag, f"{share:.0%} of {names[row]} are answered rightly"))
                if row != column and share > self.max_off_diag:
                    text = f"{share:.0%} of {names[row]} are answered as {names[column]}"
                    messages.append((self.max_off_diag - share, text))
        worst_first = [(record.last_step, text) for _, text in sorted(messages)]
        return verdict(worst_first, "Look at the photos of these classes in the report: are they labelled rightly?")


@dataclass(frozen=True)
class StalledTrainingRule:
    """Nothing has been recorded for a long time, although the run had not ended.

    Attributes:
        threshold: Seconds without a row that are still fine.
    """

    threshold: float = 1800.0

    def judge(self, record: Record) -> Verdict:
        """Compares the rows' times with each other and, while the run lasts, with now."""
        times = [(row.step, row.at) for row in record.rows]
        if not times:
            return too_little("no step yet")
        # Between the end of a run and its continuation nothing stalls.
        starts = [phase.began for phase in record.measurements.phases if phase.name == START_UP]
        ends = [*times[1:], (times[-1][0], record.now)] if record.now is not None else times[1:]
        found = [
            (step, f"no step for {later - earlier:.0f} s after step {before}")
            for (before, earlier), (step, later) in zip(times, ends, strict=False)
            if later - earlier > self.threshold and not any(earlier < start < later for start in starts)
        ]
        return verdict(found, "Is the machine out of memory, or waiting for a disk or the network?")

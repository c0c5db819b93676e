"""Rules over the times of steps: MaxInitializationTime, StepOutlier, and DataWaits, which is our own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from dogbreeds.debug.measurements import PARTS, START_UP, StepTimes
from dogbreeds.debug.record import TRAIN, Record
from dogbreeds.debug.rules.verdict import ADVICE, Rule, Verdict, not_applicable


@dataclass(frozen=True)
class MaxInitializationTime(Rule):
    """The first training step ends more than `threshold` minutes after the start of a run, or its resumption."""

    threshold: float = 20.0

    def judge(self, record: Record) -> Verdict:
        starts = [phase.began for phase in record.measurements.phases if phase.name == START_UP]
        found, seen = [], False
        for began, next_began in pairwise([*starts, math.inf]):
            first = next((one for one in record.measurements.steps if began <= one.at < next_began), None)
            if first is None:
                continue
            seen, minutes = True, (first.at - began) / 60
            if minutes > self.threshold:
                found.append((first.step, f"the first step, {first.step}, came after {minutes:.1f} minutes"))
        return self.verdict(found) if seen else not_applicable("no training step yet")


@dataclass(frozen=True)
class StepOutlier(Rule):
    """More than `n_outliers` steps take longer than the mean plus `stddev` standard deviations.

    By Cantelli's inequality no more than one value of 1 + stddev^2 can be that far above the mean, so runs with too
    few steps for that are not judged. `mode` is `train`, or None for all steps; only training steps are timed.
    """

    stddev: float = 5.0
    n_outliers: int = 10
    mode: str | None = None

    def judge(self, record: Record) -> Verdict:
        steps = record.measurements.steps if self.mode in (None, TRAIN) else []
        needed = math.ceil((self.n_outliers + 1) * (1 + self.stddev**2))
        if len(steps) < needed:
            return not_applicable(f"only {len(steps)} {self.mode or TRAIN} steps; {needed} are needed")
        parts = _parts(steps)
        totals = parts.sum(axis=1)
        mean, longest = float(totals.mean()), int(totals.argmax())
        limit = mean + self.stddev * float(totals.std())
        outliers = np.flatnonzero(totals > limit)
        if len(outliers) <= self.n_outliers:
            return self.verdict([])
        part = PARTS[int((parts[outliers].mean(axis=0) - parts.mean(axis=0)).argmax())]
        message = f"{len(outliers)} of {len(steps)} steps took longer than {limit:.3g} s (mean {mean:.3g} s);"
        message += f" step {steps[longest].step} took {totals[longest]:.3g} s; the part that grew most is {part}"
        return self.verdict([(steps[number].step, message) for number in outliers], ADVICE["parts"][part])


@dataclass(frozen=True)
class DataWaits(Rule):
    """Training spends much of its time waiting for batches.

    Waiting for them and moving them takes more than a share, `threshold`, of the time of all steps, of which at least
    `steps` are needed.
    """

    threshold: float = 0.5
    steps: int = 50

    def judge(self, record: Record) -> Verdict:
        steps = record.measurements.steps
        if len(steps) < self.steps:
            return not_applicable(f"only {len(steps)} steps; {self.steps} are needed")
        parts = _parts(steps)
        waits = parts[:, [PARTS.index("data"), PARTS.index("move")]]
        data, move = (float(seconds) for seconds in waits.sum(axis=0))
        total, worst = float(parts.sum()), steps[int(waits.sum(axis=1).argmax())].step
        if data + move <= self.threshold * total:
            return self.verdict([])
        message = f"of {total:.3g} s in {len(steps)} steps, {data / total:.0%} were spent waiting for batches and"
        message += f" {move / total:.0%} moving them to the device; step {worst} waited longest"
        return self.verdict([(worst, message)], ADVICE["parts"]["data" if data >= move else "move"])


def _parts(steps: Sequence[StepTimes]) -> NDArray[np.float64]:
    """Returns the seconds of each part of each step, (steps, parts)."""
    return np.array(list(map(attrgetter(*PARTS), steps)), dtype=np.float64).reshape(len(steps), len(PARTS))

"""Rules over the times of steps: MaxInitializationTime, StepOutlier, and DataWaits, which is our own.

Names, parameters, defaults and definitions of the first two are those of the developer guide's list of built-in
profiler rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from dogbreeds.debug.measurements import PARTS, StepTimes
from dogbreeds.debug.record import TRAIN, Record
from dogbreeds.debug.rules.verdict import Verdict, too_little, verdict

_START_UP = "start-up"
_COMPUTE = "Does another program use this machine? Some first steps are slow because libraries load or compile."
# What to try where a part of a step takes long.
_ADVICE = {
    "data": "Try cache.dir on a local disk, and a larger batch_size. With model.unfreeze, activations are read in "
    "every epoch: those of a later stage are smaller.",
    "move": "Try a larger batch_size, or trainer=cpu: a head on stored features hardly needs a GPU.",
    "forward": _COMPUTE,
    "backward": _COMPUTE,
    "record": "Try a larger debugger.train_every.",
    "optimizer": _COMPUTE,
    "logging": "Try a run directory (hydra.run.dir) on a local disk.",
}


@dataclass(frozen=True)
class MaxInitializationTime:
    """The first training step comes late.

    From the developer guide's list of built-in profiler rules: there are more than `threshold` minutes from the
    beginning to the end of the first step. A continued run begins once more.

    Attributes:
        threshold: Minutes.
    """

    threshold: float = 20.0

    def judge(self, record: Record) -> Verdict:
        """Compares each beginning with the first step after it."""
        starts = [phase.began for phase in record.measurements.phases if phase.name == _START_UP]
        found, seen = [], False
        for began, next_began in pairwise([*starts, math.inf]):
            first = next((one for one in record.measurements.steps if began <= one.at < next_began), None)
            if first is None:
                continue
            seen, minutes = True, (first.at - began) / 60
            if minutes > self.threshold:
                found.append((first.step, f"the first step, {first.step}, came after {minutes:.1f} minutes"))
        if not seen:
            return too_little("no training step yet")
        return verdict(
            found,
            "scripts/prepare_features.py computes the features ahead of training, and cache.dir keeps them for all "
            "runs. features.engine=auto takes the fastest engine.",
        )


@dataclass(frozen=True)
class StepOutlier:
    """Some steps take far longer than the others.

    From the developer guide's list of built-in profiler rules: more than `n_outliers` steps are longer than the mean
    and `stddev` standard deviations. By Cantelli's inequality no more than one value of 1 + stddev^2 can be that far
    above the mean, so runs with fewer steps than that needs are not judged.

    Attributes:
        stddev: Standard deviations.
        n_outliers: Outliers that are still fine.
        mode: `train`, or None for all steps; the steps of training are those that are timed.
    """

    stddev: float = 5.0
    n_outliers: int = 10
    mode: str | None = None

    def judge(self, record: Record) -> Verdict:
        """Looks at all steps together."""
        steps = record.measurements.steps if self.mode in (None, TRAIN) else []
        needed = math.ceil((self.n_outliers + 1) * (1 + self.stddev**2))
        if len(steps) < needed:
            return too_little(f"{len(steps)} of the {needed} {self.mode or TRAIN} steps that are needed")
        parts = _parts(steps)
        totals = parts.sum(axis=1)
        mean, longest = float(totals.mean()), int(totals.argmax())
        limit = mean + self.stddev * float(totals.std())
        outliers = np.flatnonzero(totals > limit)
        if len(outliers) <= self.n_outliers:
            return verdict([], "")
        part = PARTS[int((parts[outliers].mean(axis=0) - parts.mean(axis=0)).argmax())]
        message = (
            f"{len(outliers)} of {len(steps)} steps took longer than {limit:.3g} s, where {mean:.3g} s is the mean; "
            f"step {steps[longest].step} took {totals[longest]:.3g} s; the part that grew most is {part}"
        )
        return verdict([(steps[number].step, message) for number in outliers], _ADVICE[part])


@dataclass(frozen=True)
class DataWaits:
    """Training waits for its batches for much of the time.

    Attributes:
        threshold: The largest share of the time of all steps that may go into waiting for batches and moving them.
        steps: Steps below which nothing is said.
    """

    threshold: float = 0.5
    steps: int = 50

    def judge(self, record: Record) -> Verdict:
        """Adds up the times of all steps."""
        steps = record.measurements.steps
        if len(steps) < self.steps:
            return too_little(f"{len(steps)} of the {self.steps} steps that are needed")
        parts = _parts(steps)
        waits = parts[:, [PARTS.index("data"), PARTS.index("move")]]
        data, move = (float(seconds) for seconds in waits.sum(axis=0))
        total, worst = float(parts.sum()), steps[int(waits.sum(axis=1).argmax())].step
        if data + move <= self.threshold * total:
            return verdict([], "")
        message = (
            f"of {total:.3g} s in {len(steps)} steps, {data / total:.0%} went into waiting for batches and "
            f"{move / total:.0%} into moving them to the device; step {worst} waited longest"
        )
        return verdict([(worst, message)], _ADVICE["data" if data >= move else "move"])


def _parts(steps: Sequence[StepTimes]) -> NDArray[np.float64]:
    """Returns the seconds of each part of each step, (steps, parts)."""
    return np.array(list(map(attrgetter(*PARTS), steps)), dtype=np.float64).reshape(len(steps), len(PARTS))

"""Rules over tensors: what gradients, weights, updates and activations should not look like."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dogbreeds.debug.record import ACTIVATION, ACTIVITY, GRADIENT, UPDATE, WEIGHT, Record, Statistics
from dogbreeds.debug.rules.verdict import Rule, Verdict, not_applicable

Finding = tuple[int, str]


@dataclass(frozen=True)
class PoorWeightInitialization(Rule):
    """The first steps show weights that differ wildly between layers, gradients without spread, or a flat loss.

    Attributes:
        threshold: The largest allowed ratio of the weights' variances of two layers.
        distribution_range: The smallest allowed distance of the 5th and the 95th percentile of a gradient.
        patience: Allowed steps in a row with the same loss.
        steps: Recorded steps that are judged, from the first.
        first_loss: The largest allowed first loss, as a multiple of log(classes), that of guessing; the documented
            rule has no such limit, 0.
    """

    threshold: float = 10.0
    distribution_range: float = 0.001
    patience: int = 5
    steps: int = 10
    first_loss: float = 0.0

    def judge(self, record: Record) -> Verdict:
        first = record.of("train")[: self.steps]
        if not any(row.tensors for row in first):
            return not_applicable("no tensors recorded")
        early = Record(first, record.facts)
        found = [*self._weights(early), *self._gradients(early), *self._loss(early)]
        return self.verdict(sorted(found))

    def _weights(self, record: Record) -> Iterator[Finding]:
        variances: dict[int, dict[str, float]] = {}
        for name, series in record.tensors(WEIGHT).items():
            # Biases, and layers that start with equal weights, have no scale to compare.
            if name.endswith("weight") and series[0][1].variance > 0:
                for step, found in series:
                    variances.setdefault(step, {})[name] = found.variance
        for step, layers in variances.items():
            ratio = max(layers.values()) / max(min(layers.values()), sys.float_info.min)
            if ratio > self.threshold:
                wide, narrow = max(layers, key=layers.__getitem__), min(layers, key=layers.__getitem__)
                yield step, f"the variance of {wide} is {ratio:.3g} times that of {narrow}"

    def _gradients(self, record: Record) -> Iterator[Finding]:
        for name, series in record.tensors(GRADIENT).items():
            for step, found in series if name.endswith("weight") else ():
                if found.p95 - found.p5 < self.distribution_range:
                    yield step, f"nearly all values of the gradient of {name} are {found.p50:.3g}"

    def _loss(self, record: Record) -> Iterator[Finding]:
        losses, flat = record.scalar("loss"), 0
        guessing = math.log(max(len(record.facts.class_counts), 2))
        if self.first_loss and losses and not losses[0][1] <= self.first_loss * guessing:
            yield losses[0][0], f"the first loss is {losses[0][1]:.4g}; guessing has {guessing:.2f}"
        for (_, before), (step, loss) in pairwise(losses):
            flat = flat + 1 if loss == before else 0
            if flat > self.patience:
                yield step, f"the loss stays at {loss:.4g}"


@dataclass(frozen=True)
class VanishingGradient(Rule):
    """A gradient's mean absolute value is close to zero.

    It is below `threshold` more than `patience` times in a row; the documented rule allows none, 0.
    """

    threshold: float = 1e-7
    patience: int = 0

    def judge(self, record: Record) -> Verdict:
        gradients = record.tensors(GRADIENT)
        if not gradients:
            return not_applicable("no tensors recorded")
        found = []
        for name, series in gradients.items():
            in_a_row = 0
            for step, gradient in series:
                in_a_row = 0 if gradient.mean_absolute >= self.threshold else in_a_row + 1
                if in_a_row > self.patience:
                    found.append((step, f"the mean size of gradient {name} is {gradient.mean_absolute:.3g}"))
        return self.verdict(sorted(found))


@dataclass(frozen=True)
class ExplodingTensor(Rule):
    """A tensor has NaN or infinite values.

    With `only_nan` infinities are allowed.
    """

    only_nan: bool = False

    def judge(self, record: Record) -> Verdict:

        def exploded(step: int, name: str, found: Statistics) -> str:
            bad = found.nan + (0 if self.only_nan else found.infinite)
            return f"{name} has {bad} NaN or infinite values" if bad else ""

        return _each(self, record, (WEIGHT, GRADIENT, UPDATE, ACTIVATION), exploded)


@dataclass(frozen=True)
class DeadRelu(Rule):
    """Most units of a ReLU layer are hardly ever active.

    The share of dead units is interpolated between the recorded percentiles of how often the units are active in one
    step; it is exact at a `threshold_layer` of 50.

    Attributes:
        threshold_inactivity: Percent of the photos below which an active unit counts as dead.
        threshold_layer: The largest allowed percentage of dead units.
    """

    threshold_inactivity: float = 1.0
    threshold_layer: float = 50.0

    def judge(self, record: Record) -> Verdict:
        min_activity = self.threshold_inactivity / 100

        def dead(step: int, name: str, active: Statistics) -> str:
            places = [active.minimum, active.p5, active.p50, active.p95, active.maximum]
            share = 100 * float(np.interp(min_activity, places, [0, 0.05, 0.5, 0.95, 1], left=0, right=1))
            layer = name.removeprefix(f"{ACTIVITY} ")
            return f"{share:.0f}% of the units of {layer} are dead" if share > self.threshold_layer else ""

        return _each(self, record, (ACTIVITY,), dead)


class _OverUpdates(Rule):
    """A rule over a weight's series of steps, updates and mean absolute values before them."""

    def judge(self, record: Record) -> Verdict:
        sizes = {name: dict(series) for name, series in record.tensors(WEIGHT).items()}
        updates = record.tensors(UPDATE)
        found: list[Finding] = []
        for name, series in updates.items():
            known = sizes.get(name, {})
            before = [known[step].mean_absolute if step in known else 0.0 for step, _ in series]
            found += self._look(name, [(*one, size) for one, size in zip(series, before, strict=True)])
        return self.verdict(sorted(found)) if updates else not_applicable("no updates recorded")

    def _look(self, name: str, series: Sequence[tuple[int, Statistics, float]]) -> Iterator[Finding]:
        raise NotImplementedError


@dataclass(frozen=True)
class UnchangedTensor(_OverUpdates):
    """A weight no longer changes, or never did: numpy.allclose over several recorded steps.

    With `rtol` and `atol` it is the same in `num_steps` of them in a row.
    """

    num_steps: int = 3
    rtol: float = 1e-5
    atol: float = 1e-8

    def _look(self, name: str, series: Sequence[tuple[int, Statistics, float]]) -> Iterator[Finding]:
        still = 0
        for step, update, size in series:
            largest = max(abs(update.minimum), abs(update.maximum))
            still = still + 1 if largest <= self.atol + self.rtol * size else 0
            if still >= self.num_steps:
                yield step, f"{name} has not changed for {still} recorded steps"


@dataclass(frozen=True)
class WeightUpdateRatio(_OverUpdates):
    """Updates are far too large, or far too small, for the weights they change.

    Attributes:
        large_threshold: The largest allowed ratio of the mean absolute values; `small_threshold` the smallest.
        epsilon: Added to the mean absolute value of the weights.
    """

    large_threshold: float = 10.0
    small_threshold: float = 1e-8
    epsilon: float = 1e-9

    def _look(self, name: str, series: Sequence[tuple[int, Statistics, float]]) -> Iterator[Finding]:
        for step, update, size in series:
            ratio = update.mean_absolute / (size + self.epsilon)
            # A layer that starts at zero has nothing to compare with.
            if size and not self.small_threshold <= ratio <= self.large_threshold:
                yield step, f"the updates of {name} are {ratio:.3g} times its values"


@dataclass(frozen=True)
class AllZero(Rule):
    """A tensor consists of zeros.

    A new head gives all classes the same probability. In a batch with equally many photos of each class, the gradient
    of its bias is then exactly zero at the first step of the run; that one is not judged.

    The rule fires at `threshold` percent of zeros.
    """

    threshold: float = 100.0

    def judge(self, record: Record) -> Verdict:
        """Counts the zeros of gradients and activations; weights may start at zero."""

        def zero(step: int, name: str, found: Statistics) -> str:
            not_judged = step == 0 and name.startswith(GRADIENT) and name.endswith("bias")
            fires = 100 * found.zeros >= self.threshold and not not_judged
            return f"{found.zeros:.0%} of {name} is zero" if fires else ""

        return _each(self, record, (GRADIENT, ACTIVATION), zero)


def _each(rule: Rule, record: Record, kinds: Sequence[str], look: Callable[[int, str, Statistics], str]) -> Verdict:
    """Returns the verdict on what is said of each tensor of some kinds at each step; empty where it is fine."""
    tensors = {f"{kind} {name}": series for kind in kinds for name, series in record.tensors(kind).items()}
    judged = [(step, look(step, name, statistics)) for name, series in tensors.items() for step, statistics in series]
    found = sorted((step, message) for step, message in judged if message)
    return rule.verdict(found) if judged else not_applicable(f"no {' or '.join(kinds)} recorded")

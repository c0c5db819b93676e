"""Rules over losses, which are without class weights: LossNotDecreasing, Overfit, Overtraining."""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from dogbreeds.debug.record import EVAL, Record
from dogbreeds.debug.rules.verdict import Rule, Verdict, not_applicable


@dataclass(frozen=True)
class LossNotDecreasing(Rule):
    """The training loss falls by less than `diff_percent` over `num_steps`, or rises.

    Attributes:
        num_steps: Steps between the two losses that are compared, at least.
        diff_percent: The smallest fall, in percent of the earlier loss.
        increase_threshold_percent: A larger rise is reported as one.
        share_of_first: Losses below this share of the first one need not fall any more; the documented rule has none,
            0. A head on frozen features loses most of its loss in some steps; the rest is noise of the batches.
    """

    num_steps: int = 10
    diff_percent: float = 0.1
    increase_threshold_percent: float = 5.0
    share_of_first: float = 0.0

    def judge(self, record: Record) -> Verdict:
        series = record.scalar("loss")
        steps = [step for step, _ in series]
        found, compared = [], False
        for step, loss in series:
            low = abs(loss) < self.share_of_first * abs(series[0][1])
            position = bisect.bisect_right(steps, step - self.num_steps) - 1
            compared = compared or low or position >= 0
            if low or position < 0:
                continue
            before_step, before = series[position]
            change = 100 * (loss - before) / abs(before) if before else math.copysign(math.inf, loss)
            if not change <= -self.diff_percent:
                word = "rose" if change > self.increase_threshold_percent else "did not fall"
                ends = f"from {before:.4g} (step {before_step}) to {loss:.4g} (step {step})"
                found.append((step, f"the loss {word} {ends}"))
        return self.verdict(found) if compared else not_applicable(f"fewer than {self.num_steps} steps")


@dataclass(frozen=True)
class Overfit(Rule):
    """The validation loss is above the training loss by more than `ratio_threshold` of it, again and again.

    Steps before `start_step` are not judged, and `patience` occurrences in a row are allowed.
    """

    start_step: int = 0
    patience: int = 1
    ratio_threshold: float = 0.1

    def judge(self, record: Record) -> Verdict:
        """Compares each validation loss with the mean training loss since the previous validation."""
        pairs = [pair for pair in paired_losses(record) if pair[0] >= self.start_step]
        if not pairs:
            return not_applicable("no validation loss with training losses before it")
        found, in_a_row = [], 0
        for step, train, valid in pairs:
            ratio = (valid - train) / train if train else math.inf
            in_a_row = in_a_row + 1 if ratio > self.ratio_threshold else 0
            if in_a_row > self.patience:
                losses = f"the validation loss {valid:.4g} is {ratio:.0%} above the training loss {train:.4g}"
                found.append((step, f"at step {step} {losses}"))
        return self.verdict(found)


@dataclass(frozen=True)
class Overtraining(Rule):
    """No loss has improved for many steps: training could have ended.

    `patience_train` recorded steps and `patience_validation` validations in a row are allowed without a loss that is
    smaller by more than `delta`.
    """

    patience_train: int = 5
    patience_validation: int = 10
    delta: float = 0.01

    def judge(self, record: Record) -> Verdict:
        train, valid = record.scalar("loss"), record.scalar("loss", EVAL)
        if not train and not valid:
            return not_applicable("no loss")
        found = self._stale(train, self.patience_train, "training")
        found += self._stale(valid, self.patience_validation, "validation")
        return self.verdict(sorted(found))

    def _stale(self, series: Sequence[tuple[int, float]], patience: int, name: str) -> list[tuple[int, str]]:
        best, best_step, without, found = math.inf, 0, 0, []
        for step, loss in series:
            if loss < best - self.delta:
                best, best_step, without = loss, step, 0
                continue
            without += 1
            if without > patience:
                found.append((step, f"the {name} loss has not been below {best:.4g} since step {best_step}"))
        return found


def paired_losses(record: Record) -> list[tuple[int, float, float]]:
    """Returns step, mean training loss since the previous validation, and mean validation loss."""
    train = record.scalar("loss")
    steps, found, begin = [step for step, _ in train], [], 0
    for step, valid in record.means("loss", EVAL):
        end = bisect.bisect_right(steps, step)
        if end > begin:
            found.append((step, sum(loss for _, loss in train[begin:end]) / (end - begin), valid))
        begin = end
    return found

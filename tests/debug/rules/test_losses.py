"""Rules over losses, each on a small record on which it fires and on one on which it does not."""

from __future__ import annotations

import math

import pytest

from dogbreeds.debug.record import EVAL, TRAIN, Record, Row
from dogbreeds.debug.rules.losses import LossNotDecreasing, Overfit, Overtraining
from dogbreeds.debug.rules.verdict import ISSUES, NO_ISSUES, NOT_APPLICABLE


def losses(train: list[float], valid: list[float] | None = None, every: int = 1) -> Record:
    """A record with a training loss at each step, and a validation loss after every so many of them."""
    rows = []
    for number, loss in enumerate(train):
        rows.append(Row(TRAIN, number, 1, float(number), {"loss": loss}))
        if valid and (number + 1) % every == 0:
            value = valid[(number + 1) // every - 1]
            rows.append(Row(EVAL, number, 1, float(number), {"loss": value}))
    return Record(rows)


def test_a_loss_that_falls_is_fine() -> None:
    falling = losses([1.0 * 0.9**step for step in range(40)])
    assert LossNotDecreasing().judge(falling).status == NO_ISSUES


@pytest.mark.parametrize(
    ("series", "first", "word"),
    [
        ([1.0] * 30, 10, "did not fall"),
        ([0.9**step for step in range(20)] + [0.12] * 12, 30, "did not fall"),
        ([1.0 + 0.1 * step for step in range(30)], 10, "rose"),
        ([0.0] * 30, 10, "rose"),
        ([1.0] * 11 + [math.nan], 10, "did not fall"),
    ],
    ids=["flat", "flat after a while", "rising", "zero", "nan"],
)
def test_a_loss_that_does_not_fall(series: list[float], first: int, word: str) -> None:
    found = LossNotDecreasing().judge(losses(series))
    assert found.status == ISSUES
    assert found.steps[0] == first
    assert word in found.message and "step" in found.message
    assert "learning rate" in found.advice


def test_the_fall_is_measured_against_num_steps_before() -> None:
    slow = losses([1.0 - 0.001 * step for step in range(40)])
    assert LossNotDecreasing().judge(slow).status == NO_ISSUES
    assert LossNotDecreasing(diff_percent=2.0).judge(slow).status == ISSUES
    assert LossNotDecreasing(num_steps=30, diff_percent=2.0).judge(slow).status == NO_ISSUES
    assert LossNotDecreasing(num_steps=40).judge(slow).status == NOT_APPLICABLE


def test_overfit_needs_the_gap_more_often_than_patience() -> None:
    train = [1.0] * 8
    assert Overfit().judge(losses(train, [1.05, 1.09, 1.08, 1.09], every=2)).status == NO_ISSUES
    assert Overfit().judge(losses(train, [1.2, 1.0, 1.2, 1.0], every=2)).status == NO_ISSUES
    found = Overfit().judge(losses(train, [1.0, 1.2, 1.3, 1.4], every=2))
    assert (found.status, found.steps) == (ISSUES, (5, 7))
    assert "1.3" in found.message and "30%" in found.message
    assert Overfit(patience=3).judge(losses(train, [1.2] * 4, every=2)).status == ISSUES
    assert Overfit(patience=4).judge(losses(train, [1.2] * 4, every=2)).status == NO_ISSUES
    assert Overfit(start_step=6).judge(losses(train, [1.2] * 4, every=2)).status == NO_ISSUES
    assert Overfit(ratio_threshold=0.5).judge(losses(train, [1.4] * 4, every=2)).status == NO_ISSUES


def test_overfit_compares_with_the_training_losses_of_the_same_time() -> None:
    # The mean of the steps 2 and 3 is 0.5, to which 0.52 is near; to the mean of all it would be far below.
    record = losses([1.0, 1.0, 0.6, 0.4], [1.0, 0.52], every=2)
    assert Overfit(patience=0).judge(record).status == NO_ISSUES
    assert Overfit().judge(losses([1.0] * 5)).status == NOT_APPLICABLE


def test_overtraining_waits_for_a_new_optimum() -> None:
    falling = [1.0 - 0.02 * step for step in range(20)]
    assert Overtraining().judge(losses(falling)).status == NO_ISSUES
    found = Overtraining().judge(losses([*falling, *[0.62] * 7]))
    assert (found.status, found.steps) == (ISSUES, (25, 26))
    assert "training loss" in found.message and "step 19" in found.message
    # Better by less than delta is not better.
    creeping = [1.0 - 0.0001 * step for step in range(20)]
    assert Overtraining().judge(losses(creeping)).status == ISSUES
    assert Overtraining(delta=0.00005).judge(losses(creeping)).status == NO_ISSUES


def test_overtraining_has_a_patience_for_each_mode() -> None:
    train = [1.0 - 0.02 * step for step in range(24)]
    assert Overtraining().judge(losses(train, [0.5] * 8 + [0.4] * 8 + [0.3] * 8)).status == NO_ISSUES
    found = Overtraining().judge(losses(train, [0.5] * 24))
    assert found.status == ISSUES
    assert found.steps[0] == 11
    assert "validation loss" in found.message
    assert Overtraining().judge(Record()).status == NOT_APPLICABLE


def test_a_loss_that_is_low_already_need_not_fall() -> None:
    flat = losses([2.0, 1.0] + [0.1] * 28)
    assert LossNotDecreasing().judge(flat).status == ISSUES
    assert LossNotDecreasing(share_of_first=0.9).judge(flat).status == NO_ISSUES
    high = LossNotDecreasing(share_of_first=0.9).judge(losses([2.0] * 5 + [1.9] * 25))
    assert (high.status, high.steps[0]) == (ISSUES, 15)

"""Rules over the times of steps, each on a small record on which it fires and on one on which it does not."""

from __future__ import annotations

from collections.abc import Sequence

from dogbreeds.debug.measurements import Measurements, Phase, StepTimes
from dogbreeds.debug.record import Record
from dogbreeds.debug.rules.steps import DataWaits, MaxInitializationTime, StepOutlier
from dogbreeds.debug.rules.verdict import ISSUES, NO_ISSUES, NOT_APPLICABLE


def record(steps: Sequence[StepTimes], *began: float) -> Record:
    """Steps, and a run that began at a time, and again at others."""
    phases = [phase for at in began for phase in (Phase("start-up", at, at + 5), Phase("features", at + 5, at + 9))]
    return Record(measurements=Measurements(steps=list(steps), phases=phases))


def test_a_first_step_that_comes_late() -> None:
    rule = MaxInitializationTime()
    assert rule.judge(record([StepTimes(0, 1, 1200.0), StepTimes(1, 1, 9000.0)], 0.0)).status == NO_ISSUES
    found = rule.judge(record([StepTimes(0, 1, 1230.0)], 0.0))
    assert (found.status, found.steps) == (ISSUES, (0,))
    assert "20.5 minutes" in found.message and "prepare_features" in found.advice
    assert MaxInitializationTime(threshold=21.0).judge(record([StepTimes(0, 1, 1230.0)], 0.0)).status == NO_ISSUES


def test_a_continued_run_begins_once_more() -> None:
    rule = MaxInitializationTime()
    steps = [StepTimes(0, 1, 60.0), StepTimes(1, 1, 70.0), StepTimes(2, 1, 100_060.0)]
    assert rule.judge(record(steps, 0.0, 100_000.0)).status == NO_ISSUES
    assert rule.judge(record(steps, 0.0, 98_000.0)).steps == (2,)
    # The first run was stopped before it had a step.
    assert rule.judge(record(steps[2:], 0.0, 100_000.0)).status == NO_ISSUES


def test_initialization_is_not_judged_before_it_is_over() -> None:
    assert MaxInitializationTime().judge(record([], 0.0)).status == NOT_APPLICABLE
    assert MaxInitializationTime().judge(record([StepTimes(0, 1, 1.0)])).status == NOT_APPLICABLE


def with_outliers(outliers: int, steps: int = 400) -> Record:
    """The first steps take ten times as long as the others, because of their data."""
    return record([StepTimes(n, 1, float(n), data=0.91 if n < outliers else 0.01, forward=0.09) for n in range(steps)])


def test_more_outliers_than_are_fine() -> None:
    found = StepOutlier().judge(with_outliers(11))
    assert (found.status, found.steps) == (ISSUES, tuple(range(11)))
    assert "11 of 400 steps" in found.message and "data" in found.message and "cache.dir" in found.advice
    assert StepOutlier().judge(with_outliers(10)).status == NO_ISSUES
    assert StepOutlier(n_outliers=9).judge(with_outliers(10)).status == ISSUES
    assert StepOutlier(n_outliers=11).judge(with_outliers(11)).status == NO_ISSUES
    # 11 of 400 are 5.9 standard deviations above the mean.
    assert StepOutlier(stddev=5.9).judge(with_outliers(11)).status == ISSUES
    assert StepOutlier(stddev=5.97).judge(with_outliers(11, 400)).status == NOT_APPLICABLE


def test_outliers_need_the_steps_among_which_there_can_be_some() -> None:
    # (10 + 1) * (1 + 5^2) = 286 steps; with the 286th, 11 outliers are just not beyond the limit.
    early = StepOutlier().judge(with_outliers(11, 285))
    assert (early.status, early.message) == (NOT_APPLICABLE, "only 285 train steps; 286 are needed")
    assert StepOutlier().judge(with_outliers(11, 290)).status == ISSUES
    assert StepOutlier(stddev=2.0, n_outliers=0).judge(with_outliers(1, 4)).status == NOT_APPLICABLE


def test_the_steps_of_training_are_those_that_are_timed() -> None:
    assert StepOutlier(mode="train").judge(with_outliers(11)).status == ISSUES
    assert StepOutlier(mode="eval").judge(with_outliers(11)).status == NOT_APPLICABLE


def waiting(data: float, move: float, steps: int = 50) -> Record:
    """Steps that compute for a second; the fourth of them waits a little longer."""
    return record(
        [StepTimes(n, 1, float(n), data + (0.001 if n == 3 else 0.0), move, backward=1.0) for n in range(steps)]
    )


def test_training_that_waits_for_batches() -> None:
    found = DataWaits().judge(waiting(data=1.2, move=0.3))
    assert (found.status, found.steps) == (ISSUES, (3,))
    assert "48%" in found.message and "12%" in found.message and "cache.dir" in found.advice
    moving = DataWaits().judge(waiting(data=0.3, move=1.2))
    assert moving.status == ISSUES and "trainer=cpu" in moving.advice and "cache.dir" not in moving.advice


def test_training_that_does_not_wait() -> None:
    assert DataWaits().judge(waiting(data=0.5, move=0.4)).status == NO_ISSUES
    assert DataWaits(threshold=0.4).judge(waiting(data=0.5, move=0.4)).status == ISSUES
    assert DataWaits().judge(waiting(data=9.0, move=0.0, steps=49)).status == NOT_APPLICABLE
    assert DataWaits().judge(record([StepTimes(n, 1, float(n)) for n in range(50)])).status == NO_ISSUES

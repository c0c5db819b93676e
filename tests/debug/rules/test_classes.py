"""Rules over classes and time, each on a small record on which it fires and on one on which it does not."""

from __future__ import annotations

import numpy as np

from dogbreeds.debug.measurements import START_UP, Measurements, Phase
from dogbreeds.debug.record import TRAIN, Facts, Record, Row
from dogbreeds.debug.rules.classes import ClassImbalance, Confusion, StalledTrainingRule
from dogbreeds.debug.rules.verdict import ISSUES, NO_ISSUES, NOT_APPLICABLE

EVEN = {"beagle": 300, "poodle": 290, "boxer": 310}
GOOD = [[19, 1, 0], [0, 20, 0], [1, 0, 19]]


def known(counts: dict[str, int], confusion: list[list[int]]) -> Record:
    return Record([Row(TRAIN, 7, 1, 0.0)], Facts(counts), confusion={"valid": np.array(confusion)} if confusion else {})


def test_even_classes_that_are_classified_correctly_are_fine() -> None:
    assert ClassImbalance().judge(known(EVEN, GOOD)).status == NO_ISSUES
    assert Confusion().judge(known(EVEN, GOOD)).status == NO_ISSUES


def test_too_few_photos_or_no_answers_say_nothing() -> None:
    assert ClassImbalance().judge(known({"a": 9, "b": 1}, [])).status == NOT_APPLICABLE
    assert ClassImbalance(samples=10).judge(known({"a": 9, "b": 1}, [])).status == NO_ISSUES
    assert Confusion().judge(known(EVEN, [])).status == NOT_APPLICABLE


def test_one_class_with_many_more_photos() -> None:
    found = ClassImbalance().judge(known({**EVEN, "husky": 6000}, []))
    assert (found.status, found.steps) == (ISSUES, (7,))
    assert "husky has 6000 training photos and poodle 290" in found.message
    assert "model.class_weights=balanced" in found.advice
    assert ClassImbalance(threshold_imbalance=21).judge(known({**EVEN, "husky": 6000}, [])).status == NO_ISSUES


def test_one_class_that_is_misclassified() -> None:
    found = ClassImbalance().judge(known(EVEN, [[5, 15, 0], [0, 20, 0], [0, 0, 20]]))
    assert "75% of the validation photos of beagle are misclassified" in found.message
    assert ClassImbalance().judge(known(EVEN, [[6, 14, 0], [0, 20, 0], [0, 0, 0]])).status == NO_ISSUES


def test_the_worst_confusion_comes_first() -> None:
    found = Confusion().judge(known(EVEN, [[17, 3, 0], [0, 20, 0], [10, 2, 8]]))
    assert found.status == ISSUES
    assert found.message == "40% of boxer are classified correctly"
    assert len(found.steps) == 4
    assert (
        Confusion(min_diag=0.4, max_off_diag=0.5).judge(known(EVEN, [[17, 3, 0], [0, 20, 0], [10, 2, 8]])).status
        == NO_ISSUES
    )


def test_a_run_that_stalled() -> None:
    rows = [Row(TRAIN, step, 1, at) for step, at in ((0, 0.0), (1, 5.0), (2, 2000.0), (3, 2001.0))]
    found = StalledTrainingRule().judge(Record(rows))
    assert (found.status, found.steps) == (ISSUES, (2,))
    assert "no step for 1995 s after step 1" in found.message
    assert StalledTrainingRule(threshold=2000).judge(Record(rows)).status == NO_ISSUES
    assert StalledTrainingRule().judge(Record(rows[:2], now=1800.0)).status == NO_ISSUES
    assert StalledTrainingRule().judge(Record(rows[:2], now=1806.0)).status == ISSUES
    assert StalledTrainingRule().judge(Record()).status == NOT_APPLICABLE


def test_a_run_that_was_resumed_later_did_not_stall() -> None:
    rows = [Row(TRAIN, step, 1, at) for step, at in ((0, 0.0), (1, 5.0), (2, 9000.0))]
    continued = Measurements(phases=[Phase(START_UP, 0.0, 1.0), Phase(START_UP, 8990.0, 8999.0)])
    assert StalledTrainingRule().judge(Record(rows)).status == ISSUES
    assert StalledTrainingRule().judge(Record(rows, measurements=continued)).status == NO_ISSUES

"""Rules of our own over results, each on facts on which it fires and on others on which it does not."""

from __future__ import annotations

import numpy as np

from dogbreeds.debug.record import Facts, Record, Searched
from dogbreeds.debug.rules.results import ClassNeverPredicted, HeadBelowReference, SearchedRangeEdge, SplitLeakage
from dogbreeds.debug.rules.verdict import ISSUES, NO_ISSUES, NOT_APPLICABLE

COUNTS = {"beagle": 90, "poodle": 90}


def scored(missed: int, only: int) -> Record:
    """So many photos that the trained head alone, and the exact solution alone, classifies correctly."""
    metrics = {
        "images": {"valid": 100},
        "val/accuracy": 0.7 + missed / 100,
        "reference/val_accuracy": 0.7 + only / 100,
        "reference/val_missed": missed,
        "reference/val_only": only,
        "reference/strength": 0.03,
    }
    return Record(facts=Facts(COUNTS), metrics=metrics)


def test_a_head_below_the_reference_by_more_than_chance() -> None:
    # A coin that falls on one side at most once in eight, or in seven, tosses: p = 0.0703, or 0.0156 if never.
    assert HeadBelowReference().judge(scored(1, 7)).status == NO_ISSUES
    found = HeadBelowReference().judge(scored(0, 7))
    assert found.status == ISSUES
    assert found.message == (
        "the trained head classifies 70.0% of the validation photos correctly, the exact linear solution 77.0%: "
        "it alone is right about 7, the trained head alone about 0"
    )
    assert found.advice == "Take the exact solution: optimizer=exact weight_decay=0.03."
    # Seven points are nothing where 25 photos tell the two apart.
    assert HeadBelowReference().judge(scored(9, 16)).status == NO_ISSUES
    assert HeadBelowReference().judge(scored(7, 0)).status == NO_ISSUES
    assert HeadBelowReference(level=0.01).judge(scored(0, 7)).status == NO_ISSUES
    assert HeadBelowReference().judge(Record(facts=Facts(COUNTS))).status == NOT_APPLICABLE


def test_photos_in_two_splits() -> None:
    found = SplitLeakage().judge(Record(facts=Facts(COUNTS, {"train": 180}, in_several_splits=3)))
    assert (found.status, found.message) == (ISSUES, "3 photos appear in more than one split")
    assert SplitLeakage().judge(Record(facts=Facts(COUNTS, {"train": 180}))).status == NO_ISSUES
    assert SplitLeakage().judge(Record()).status == NOT_APPLICABLE


def test_a_breed_that_is_never_the_answer() -> None:
    def answered(confusion: list[list[int]]) -> Record:
        return Record(facts=Facts(COUNTS), confusion={"valid": np.array(confusion)})

    found = ClassNeverPredicted().judge(answered([[20, 0], [19, 0]]))
    assert found.message == "poodle is never predicted, although 19 photos show it"
    assert ClassNeverPredicted().judge(answered([[20, 0], [4, 0]])).status == NO_ISSUES
    assert ClassNeverPredicted().judge(answered([[20, 1], [19, 0]])).status == NO_ISSUES
    assert ClassNeverPredicted().judge(Record()).status == NOT_APPLICABLE


def test_a_best_value_at_the_edge_of_what_was_searched() -> None:
    def searched(taken: float, *, log: bool) -> Record:
        return Record(facts=Facts(searched={"lr": Searched(0.001, 0.1, taken, log=log)}))

    found = SearchedRangeEdge().judge(searched(0.097, log=True))
    assert (found.status, found.message) == (ISSUES, "lr=0.097 is at the upper end of 0.001 to 0.1")
    assert SearchedRangeEdge().judge(searched(0.07, log=True)).status == NO_ISSUES
    # Near the lower end as lengths go, in the middle of a logarithmic scale.
    assert SearchedRangeEdge().judge(searched(0.005, log=True)).status == NO_ISSUES
    assert "lower end" in SearchedRangeEdge().judge(searched(0.005, log=False)).message
    assert SearchedRangeEdge().judge(Record()).status == NOT_APPLICABLE

"""The rules over the audit of the photos."""

from __future__ import annotations

import pytest

from dogbreeds.debug.record import Facts, Record
from dogbreeds.debug.rules.photos import NearDuplicates, SuspectLabels
from dogbreeds.debug.rules.verdict import ISSUES, NO_ISSUES, NOT_APPLICABLE


def audited(confident: int = 0, expected: float = 0.0, copies: int = 0) -> Record:
    audit = {"confident_labels": confident, "expected_labels": expected, "copies_across_splits": copies}
    return Record(facts=Facts(images={"train": 900, "valid": 250, "test": 350}, audit=audit))


# Of 900 labels of woof10, none changed and 45 changed: squeezenet1_1 at its best and worst, tf_efficientnet_lite2.
@pytest.mark.parametrize(
    ("confident", "expected", "status"),
    [(2, 4.8, NO_ISSUES), (1, 3.6, NO_ISSUES), (16, 6.1, ISSUES), (44, 3.1, ISSUES), (0, 0.0, NO_ISSUES)],
)
def test_more_improbable_labels_than_expected(confident: int, expected: float, status: str) -> None:
    assert SuspectLabels().judge(audited(confident, expected)).status == status


def test_what_it_says_of_labels() -> None:
    said = SuspectLabels().judge(audited(40, 4.2))
    assert said.message == "the other photos clearly contradict 40 of 900 training labels, where 4 would be expected"
    assert "data.exclude" in said.advice
    assert SuspectLabels().judge(Record()).status == NOT_APPLICABLE


def test_copies_across_splits() -> None:
    assert NearDuplicates().judge(audited()).status == NO_ISSUES
    assert NearDuplicates().judge(audited(copies=1)).message == (
        "1 photo is nearly the same as another one in a later split"
    )
    assert NearDuplicates(share=0.01).judge(audited(copies=6)).status == NO_ISSUES
    assert NearDuplicates().judge(Record()).status == NOT_APPLICABLE

"""What a rule says: a verdict with SageMaker Debugger's statuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dogbreeds.debug.record import Record

NO_ISSUES, ISSUES, NOT_APPLICABLE, ERROR = "NoIssuesFound", "IssuesFound", "NotApplicable", "Error"


@dataclass(frozen=True)
class Verdict:
    """What a rule found in a record.

    Attributes:
        status: One of the statuses of SageMaker Debugger, or NotApplicable where there is too little to judge.
        steps: Where the rule fired.
        message: What it saw.
        advice: What to try.
    """

    status: str
    steps: tuple[int, ...] = ()
    message: str = ""
    advice: str = ""


class Rule(Protocol):
    """A rule with its parameters."""

    def judge(self, record: Record) -> Verdict: ...


def verdict(found: Sequence[tuple[int, str]], advice: str) -> Verdict:
    """Returns the verdict of a rule that judged, with the first message.

    Args:
        found: Step and message of each time that the rule fired.
        advice: What to try.
    """
    if not found:
        return Verdict(NO_ISSUES)
    return Verdict(ISSUES, tuple(step for step, _ in found), found[0][1], advice)


def not_applicable(why: str) -> Verdict:
    return Verdict(NOT_APPLICABLE, message=why)

"""What a rule says: a verdict with SageMaker Debugger's statuses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dogbreeds.debug.record import Record

NO_ISSUES, ISSUES, NOT_APPLICABLE, ERROR = "NoIssuesFound", "IssuesFound", "NotApplicable", "Error"


@dataclass(frozen=True)
class Verdict:
    """What a rule found in a record: its status, the steps where it fired, what it saw, and what to try."""

    status: str
    steps: tuple[int, ...] = ()
    message: str = ""
    advice: str = ""


class Rule(Protocol):
    """A rule with its parameters."""

    def judge(self, record: Record) -> Verdict: ...


def verdict(found: Sequence[tuple[int, str]], advice: str) -> Verdict:
    """Returns the verdict on the steps and messages of each time that the rule fired, with the first message."""
    return Verdict(ISSUES, tuple(step for step, _ in found), found[0][1], advice) if found else Verdict(NO_ISSUES)


def not_applicable(why: str) -> Verdict:
    return Verdict(NOT_APPLICABLE, message=why)

"""What a rule says: a verdict in the service's words."""

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
        status: One of the service's words, or NotApplicable where there is too little to tell.
        steps: Where it fired.
        message: What it saw, for the person at the keyboard.
        advice: What to try.
    """

    status: str
    steps: tuple[int, ...] = ()
    message: str = ""
    advice: str = ""


class Rule(Protocol):
    """A rule with its parameters."""

    def judge(self, record: Record) -> Verdict:
        """Looks at all that was recorded so far."""


def verdict(found: Sequence[tuple[int, str]], advice: str) -> Verdict:
    """Returns the verdict of a rule that could look: the first message stands for all.

    Args:
        found: Step and message of each time that it fired.
        advice: What to try.
    """
    if not found:
        return Verdict(NO_ISSUES)
    return Verdict(ISSUES, tuple(step for step, _ in found), found[0][1], advice)


def too_little(what: str) -> Verdict:
    """Returns the verdict of a rule that has nothing to look at."""
    return Verdict(NOT_APPLICABLE, message=what)

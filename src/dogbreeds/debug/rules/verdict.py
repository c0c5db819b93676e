"""What a rule says: a verdict with SageMaker Debugger's statuses."""

from collections.abc import Sequence
from dataclasses import dataclass

from dogbreeds.debug.record import Record
from dogbreeds.files import yaml_beside

NO_ISSUES, ISSUES, NOT_APPLICABLE, ERROR = "NoIssuesFound", "IssuesFound", "NotApplicable", "Error"
#: What to try where a rule fires, by its name, and where a part of a step is slow.
ADVICE = yaml_beside(__file__, "advice.yaml")


@dataclass(frozen=True)
class Verdict:
    """What a rule found in a record: its status, the steps where it fired, what it saw, and what to try."""

    status: str
    steps: tuple[int, ...] = ()
    message: str = ""
    advice: str = ""


class Rule:
    """A rule with its parameters; advice.yaml says what to try where it fires."""

    def judge(self, record: Record) -> Verdict:
        raise NotImplementedError

    def verdict(self, found: Sequence[tuple[int, str]], advice: str = "") -> Verdict:
        """Returns the verdict on the steps and messages of each time that the rule fired, with the first message."""
        if not found:
            return Verdict(NO_ISSUES)
        return Verdict(ISSUES, tuple(step for step, _ in found), found[0][1], advice or ADVICE[type(self).__name__])


def not_applicable(why: str) -> Verdict:
    return Verdict(NOT_APPLICABLE, message=why)

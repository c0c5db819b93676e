"""Faults that can be injected, and errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Faults:
    """What a rehearsal does worse than AWS on a good day, so that nobody meets it on AWS for the first time.

    Attributes:
        capacity_errors: Number of training jobs to fail with a CapacityError.
        interrupt_after: Seconds of training after which a Spot job loses its instance, once; it restarts from its
            checkpoints. None never.
        interrupt_on: Text of a log line at which a Spot job loses its instance, once; None never.
        throttled: By operation, the number of first calls to answer with ThrottlingException.
        debugger_closed: The account has no SageMaker Debugger.
        grace_seconds: From the signal that stops a job to the one that kills it; AWS leaves 120.
    """

    capacity_errors: int = 0
    interrupt_after: float | None = None
    interrupt_on: str | None = None
    throttled: Mapping[str, int] = field(default_factory=dict)
    debugger_closed: bool = False
    grace_seconds: float = 5.0


class ApiError(Exception):
    """A refused request in the words of the service: AWS's code such as ValidationException, and more members."""

    def __init__(
        self, code: str, message: str, status: int = 400, details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.details = code, message, status, dict(details or {})


def invalid(message: str) -> ApiError:
    return ApiError("ValidationException", message)


class JobFailure(Exception):
    """Why a job fails; the text becomes its FailureReason."""

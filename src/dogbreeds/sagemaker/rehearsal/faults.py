"""What can go wrong on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Faults:
    """What a rehearsal does worse than a service on a good day, so that nobody meets it on AWS for the first time.

    Attributes:
        capacity_errors: That many training jobs are accepted, and then fail because no machines are to be had.
        interrupt_after: A training job on spare machines (managed spot) loses them this many seconds after its
            training has begun, once, and goes on from its checkpoints; None leaves all jobs alone.
        throttled: By operation, how many of its first calls are told to come back later.
        debugger_closed: Whether the account is one that SageMaker Debugger is closed to.
        grace_seconds: From the signal that stops a job to the one that kills it; AWS leaves 120.
    """

    capacity_errors: int
    interrupt_after: float | None
    throttled: Mapping[str, int]
    debugger_closed: bool
    grace_seconds: float


class ServiceError(Exception):
    """A request that is refused, as the service words it.

    Attributes:
        code: One of AWS's error codes, such as ValidationException.
        message: What is wrong with it.
        status: Of HTTP.
        details: Further members of the answer.
    """

    def __init__(
        self, code: str, message: str, status: int = 400, details: Mapping[str, object] | None = None
    ) -> None:
        """Takes the code, what is wrong, and what else the answer says."""
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.details = code, message, status, dict(details or {})


def invalid(message: str) -> ServiceError:
    """Returns what refuses a request because of what stands in it."""
    return ServiceError("ValidationException", message)


class JobFailure(Exception):
    """Why a job fails; the text becomes its FailureReason."""

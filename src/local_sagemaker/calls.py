"""What operations get and answer, and how they and jobs fail."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: The account of all calls, which is moto's own.
ACCOUNT = "123456789012"
#: Members by name: of a request, an answer or an object in one.
Members = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """A request that has passed the service model."""

    region: str
    body: Members


Operation = Callable[[Call], Members]
#: Status, body and content type that a container answers.
Answer = tuple[int, bytes, str]


class ApiError(Exception):
    """A refused request in the words of the service: AWS's code such as ValidationException, and more members."""

    def __init__(self, code: str, message: str, status: int = 400, details: Mapping[str, object] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.details = code, message, status, dict(details or {})


def invalid(message: str) -> ApiError:
    return ApiError("ValidationException", message)


class LocalSageMakerError(Exception):
    """The service cannot do what it is told; the text says what to do instead."""


class JobFailure(Exception):
    """Why a job fails; the text becomes its FailureReason."""

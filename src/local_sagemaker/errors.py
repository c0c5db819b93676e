"""Errors of the service: what it answers, why jobs fail, and what the person who starts it has to change."""

from collections.abc import Mapping


class LocalSageMakerError(Exception):
    """The service cannot do what it is told; the text says what to do instead."""


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

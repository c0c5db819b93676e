"""Turns errors of AWS into messages that say what to do: the only place that translates them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from s3transfer.exceptions import RetriesExceededError

from dogbreeds.errors import UserError
from dogbreeds.files import yaml_beside

# By words of an error or the code of a job's failure reason; the first that fits counts.
_ADVICE: Mapping[str, str] = yaml_beside(__file__, "advice.yaml")
#: Error codes of AWS by what they mean.
CODES: Mapping[str, list[str]] = yaml_beside(__file__, "codes.yaml")
# Of the connection, and of credentials that may be there later. The others are faults of a request.
_PASSING_ERRORS = (
    *(exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError, RetriesExceededError),
    *(NoCredentialsError, PartialCredentialsError, exceptions.CredentialRetrievalError),
    *(exceptions.TokenRetrievalError, exceptions.SSOError, exceptions.MetadataRetrievalError),
)


class MissingError(UserError):
    """AWS does not have what was asked for."""


class ForbiddenError(UserError):
    """The credentials do not allow a request."""


def code_of(error: BaseException | None) -> str:
    """Returns the error code of the service, such as `ValidationException`; empty where it gave none."""
    return str(_answer(error).get("Code", ""))


def message_of(error: Exception) -> str:
    if isinstance(error, RetriesExceededError):
        return f"the connection broke: {error.last_exception}"
    answer = _answer(error)
    return f"{answer['Code']}: {answer['Message']}" if answer.get("Message") else str(error)


def _answer(error: BaseException | None) -> Mapping[str, Any]:
    # Errors of the connection have a response too, which is None.
    return dict((getattr(error, "response", None) or {}).get("Error", {}))


def _is_missing(error: Exception) -> bool:
    # SageMaker has no code of its own for this, only words.
    unknown = ("Could not find", "not found", "No scalable target")
    said = code_of(error) in ("ValidationException", "ValidationError", "ObjectNotFoundException")
    return code_of(error) in CODES["missing"] or (said and any(words in message_of(error) for words in unknown))


def passes(error: BaseException | None) -> bool:
    """Says whether a request may succeed later: AWS is busy, cannot be reached, or credentials have expired."""
    if not isinstance(error, ClientError):
        return isinstance(error, _PASSING_ERRORS)
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code_of(error) in CODES["passing"] or status >= 500


def advice(said: str) -> str:
    """Returns what to do about an error message of AWS, or a job's status; empty where nothing is known."""
    return next((words for name, words in _ADVICE.items() if name in said), "")


@contextmanager
def aws_errors(doing: str, hint: str = "") -> Iterator[None]:
    """Replaces the errors of boto3 by messages; `doing` completes "Cannot ...", such as "create the endpoint".

    Without a `hint` that says what to do, one is looked up by what AWS says.

    Raises:
        MissingError: AWS does not have it.
        ForbiddenError: These credentials do not allow it.
        UserError: Credentials are missing, AWS refuses the request, or there is no connection.
    """
    try:
        yield
    except (ClientError, BotoCoreError, RetriesExceededError) as error:
        message = message_of(error).rstrip(".")
        operation = f"{error.operation_name}: " if isinstance(error, ClientError) else ""
        forbidden = ForbiddenError if code_of(error) in CODES["forbidden"] else UserError
        kind = MissingError if _is_missing(error) else forbidden
        raise kind(f"Cannot {doing} ({operation}{message}). {hint or advice(message)}".rstrip()) from error

"""Asks endpoints of SageMaker: at once, or through S3, whichever way they are made for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dogbreeds.errors import UserError
from dogbreeds.installation import command
from dogbreeds.package.messages import BYTES, JSON
from dogbreeds.sagemaker.endpoints.account import is_missing
from dogbreeds.sagemaker.s3.transfers import MissingObjectError, encryption, split_uri, storage_errors
from dogbreeds.sagemaker.session import Clients, connected, message_of
from dogbreeds.schema import SagemakerConfig
from dogbreeds.serve.client import Busy, PredictClient, PredictionFailed, error_message, parse_response

#: Bytes that an endpoint on instances takes at once, and a serverless one.
MOST_BYTES, MOST_BYTES_SERVERLESS = 6_291_456, 4_194_304
_CONNECT_SECONDS, _READ_SECONDS = 5, 70
_ACCESS = ("AccessDenied", "AccessDeniedException", "AccessDeniedByServiceQuota")
_BUSY = (
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "ModelNotReadyException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "InternalFailure",
    "InternalServerException",
    "InternalDependencyException",
)
_BUSY_CONTAINER = (408, 429, 502, 503, 504)
_NOT_FOUND = "not found"


@contextmanager
def asker_of(settings: SagemakerConfig, endpoint: str, at_once: int) -> Iterator[PredictClient]:
    """Yields what asks an endpoint.

    Args:
        settings: Where it is.
        endpoint: Its name.
        at_once: How many threads ask.

    Raises:
        UserError: There is no such endpoint, nobody may ask it with these credentials, or AWS does not answer.
    """
    with connected(settings) as clients:
        yield asker(clients, endpoint, at_once, settings.kms_key)


def asker(clients: Clients, endpoint: str, at_once: int, kms_key: str | None) -> PredictClient:
    """Returns what asks an endpoint, the way that the service says it must be asked.

    Args:
        clients: Makes clients of the service.
        endpoint: Its name.
        at_once: How many threads ask.
        kms_key: The key that encrypts photos that go through S3; None leaves it to the bucket.

    Raises:
        UserError: There is no such endpoint, nobody may ask it with these credentials, or AWS does not answer.
    """
    from botocore.config import Config

    storage = Config(max_pool_connections=at_once, connect_timeout=_CONNECT_SECONDS, read_timeout=_READ_SECONDS)
    # Asking again is the caller's, who shows patience.
    once = storage.merge(Config(retries={"total_max_attempts": 1}))
    try:
        with _invoking(endpoint):
            described = _described(clients, endpoint)
            runtime = clients("sagemaker-runtime", config=once)
            output = described.get("AsyncInferenceConfig", {}).get("OutputConfig")
            if output is not None:
                s3 = clients("s3", config=storage)
                return QueuedEndpoint(runtime, s3, endpoint, output["S3OutputPath"], kms_key)
    except Busy as error:
        raise UserError(f"endpoint={endpoint} cannot be asked for the moment ({error}): try again.") from error
    variants = described.get("ProductionVariants") or [{}]
    serverless = "CurrentServerlessConfig" in variants[0]
    return Endpoint(runtime, endpoint, MOST_BYTES_SERVERLESS if serverless else MOST_BYTES)


class Endpoint:
    """An endpoint that answers at once."""

    def __init__(self, runtime: Any, endpoint: str, max_bytes: int) -> None:
        """Takes a client of the runtime API, and a name."""
        self._runtime, self._endpoint = runtime, endpoint
        self.max_bytes: int | None = max_bytes

    def predict(self, photo: bytes) -> dict[str, Any]:
        """Asks about one photo."""
        with _invoking(self._endpoint):
            response = self._runtime.invoke_endpoint(
                EndpointName=self._endpoint, Body=photo, ContentType=BYTES, Accept=JSON
            )
            body = response["Body"].read()
        return parse_response(body)


class QueuedEndpoint:
    """An asynchronous endpoint: photos and answers lie in S3.

    Photos are named by their content below `<answers>/photos/`. An answer that is not there yet is `Busy`: the same
    question later looks for it again, and puts nothing up anew.
    """

    max_bytes: int | None = None

    def __init__(self, runtime: Any, s3: Any, endpoint: str, answers: str, kms_key: str | None) -> None:
        """Takes what it asks with.

        Args:
            runtime: A client of the runtime API.
            s3: A client of S3.
            endpoint: The endpoint's name.
            answers: The folder that the endpoint writes to.
            kms_key: The key that encrypts photos; None leaves it to the bucket.
        """
        self._runtime, self._s3, self._endpoint, self._answers = runtime, s3, endpoint, answers.rstrip("/")
        self._encryption = encryption(kms_key)
        self._begun: dict[str, tuple[str, str | None]] = {}

    def predict(self, photo: bytes) -> dict[str, Any]:
        """Asks about one photo, or looks for the answer to what was asked before."""
        digest = hashlib.sha256(photo).hexdigest()
        output, failure = self._begun.get(digest) or self._begin(digest, photo)
        if (answer := self._read(output)) is not None:
            self._begun.pop(digest, None)
            return parse_response(answer)
        if failure is not None and (reason := self._read(failure)) is not None:
            self._begun.pop(digest, None)
            raise PredictionFailed(reason.decode("utf-8", "replace"))
        raise Busy(f"{output} is not there yet, and instances may still be starting")

    def _begin(self, digest: str, photo: bytes) -> tuple[str, str | None]:
        place = f"{self._answers}/photos/{digest}"
        bucket, key = split_uri(place)
        with storage_errors(place):
            self._s3.put_object(Bucket=bucket, Key=key, Body=photo, **self._encryption)
        with _invoking(self._endpoint):
            response = self._runtime.invoke_endpoint_async(
                EndpointName=self._endpoint, InputLocation=place, ContentType=BYTES, Accept=JSON
            )
        begun = self._begun[digest] = (response["OutputLocation"], response.get("FailureLocation"))
        return begun

    def _read(self, uri: str) -> bytes | None:
        bucket, key = split_uri(uri)
        try:
            with storage_errors(uri):
                found: bytes = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except MissingObjectError:
            return None
        return found


def _described(clients: Clients, endpoint: str) -> dict[str, Any]:
    """Returns what the service says of an endpoint; nothing to who may ask it and not look at it."""
    from botocore.exceptions import ClientError

    try:
        return dict(clients("sagemaker").describe_endpoint(EndpointName=endpoint))
    except ClientError as error:
        if error.response["Error"]["Code"] not in _ACCESS:
            raise
    return {}


@contextmanager
def _invoking(endpoint: str) -> Iterator[None]:
    """Says what an endpoint's errors mean for who asks.

    Raises:
        Busy: There is no answer for the moment.
        PredictionFailed: There is none for this photo.
        UserError: There is none for any photo.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        HTTPClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise UserError("There are no AWS credentials: `aws configure`, or AWS_PROFILE, gives them.") from error
    except ClientError as error:
        raise _meant(endpoint, error) from error
    except (ConnectionError, HTTPClientError) as error:
        raise Busy(str(error)) from error
    except BotoCoreError as error:
        raise UserError(f"endpoint={endpoint} cannot be asked: {error}") from error


def _meant(endpoint: str, error: Any) -> Exception:
    code, message = error.response["Error"]["Code"], message_of(error)
    if code == "ModelError":
        status = int(error.response.get("OriginalStatusCode") or 0)
        reason = error_message(str(error.response.get("OriginalMessage", "")), status)
        return Busy(reason) if status in _BUSY_CONTAINER else PredictionFailed(reason)
    if code in _BUSY:
        return Busy(message)
    if is_missing(error) or _NOT_FOUND in message:
        return UserError(
            f"endpoint={endpoint}: there is no such endpoint in service ({message}). See which there are: "
            f"{command('deploy')} action=list"
        )
    if code in _ACCESS:
        return UserError(f"endpoint={endpoint}: these credentials may not ask it ({message}).")
    return UserError(f"endpoint={endpoint} cannot be asked ({message}).")

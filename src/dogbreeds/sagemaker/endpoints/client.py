"""Asks SageMaker endpoints, directly or through S3, whichever they are made for."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from dogbreeds.errors import UserError
from dogbreeds.package.messages import BYTES, JSON
from dogbreeds.sagemaker.aws_errors import CODES, ForbiddenError, MissingError, aws_errors, code_of, message_of
from dogbreeds.sagemaker.s3.transfers import encryption, split_uri
from dogbreeds.sagemaker.session import Clients, connected
from dogbreeds.schema import SagemakerConfig
from dogbreeds.serve.client import BUSY, Busy, PredictClient, PredictionFailed, error_message, parse_response
from local_sagemaker.rules.serving import MAX_BYTES, MAX_BYTES_SERVERLESS

_CONNECT_SECONDS, _READ_SECONDS = 5, 70
_KINDS = {"ContentType": BYTES, "Accept": JSON}


@contextmanager
def asker_of(settings: SagemakerConfig, endpoint: str, at_once: int) -> Iterator[PredictClient]:
    """Yields a client of an endpoint for `at_once` threads."""
    with connected(settings) as account:
        try:
            yield asker(account.checked_client, endpoint, at_once, settings.kms_key)
        except MissingError as error:
            raise MissingError(f"{error} List endpoints with: {account.command('deploy', 'action=list')}") from error


def asker(clients: Clients, endpoint: str, at_once: int, kms_key: str | None) -> PredictClient:
    """Returns a client that asks an endpoint in the way that it is made for, on behalf of `at_once` threads.

    `kms_key` encrypts photos that go through S3; None leaves it to the bucket.

    Raises:
        UserError: There is no such endpoint, these credentials may not use it, or AWS does not answer.
    """
    storage = Config(max_pool_connections=at_once, connect_timeout=_CONNECT_SECONDS, read_timeout=_READ_SECONDS)
    # The caller retries.
    once = storage.merge(Config(retries={"total_max_attempts": 1}))
    described: dict[str, Any] = {}
    try:
        # Some users may ask it, but not describe it.
        with suppress(ForbiddenError), _invoking(endpoint):
            described = clients("sagemaker").describe_endpoint(EndpointName=endpoint)
    except Busy as error:
        raise UserError(f"endpoint={endpoint} is busy ({error}): try again.") from error
    runtime = clients("sagemaker-runtime", config=once)
    if (output := described.get("AsyncInferenceConfig", {}).get("OutputConfig")) is not None:
        s3 = clients("s3", config=storage)
        return QueuedEndpoint(runtime, s3, endpoint, output["S3OutputPath"], kms_key)
    serverless = "CurrentServerlessConfig" in (described.get("ProductionVariants") or [{}])[0]
    return Endpoint(runtime, endpoint, MAX_BYTES_SERVERLESS if serverless else MAX_BYTES)


class Endpoint:
    """An endpoint that answers directly."""

    def __init__(self, runtime: Any, endpoint: str, max_bytes: int) -> None:
        self._runtime, self._endpoint = runtime, endpoint
        self.max_bytes: int | None = max_bytes

    def predict(self, photo: bytes) -> dict[str, Any]:
        with _invoking(self._endpoint):
            response = self._runtime.invoke_endpoint(EndpointName=self._endpoint, Body=photo, **_KINDS)
            body = response["Body"].read()
        return parse_response(body)


class QueuedEndpoint:
    """An asynchronous endpoint: photos and answers are in S3, below the folder `answers` that it writes to.

    Photos are named by their content below `<answers>/photos/`. While an answer is missing, asking raises `Busy`;
    asking again for the same photo looks for the answer and uploads nothing.
    """

    max_bytes: int | None = None

    def __init__(self, runtime: Any, s3: Any, endpoint: str, answers: str, kms_key: str | None) -> None:
        self._runtime, self._s3, self._endpoint, self._answers = runtime, s3, endpoint, answers.rstrip("/")
        self._encryption = encryption(kms_key)
        self._begun: dict[str, tuple[str, str | None]] = {}

    def predict(self, photo: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(photo).hexdigest()
        output, failure = self._begun.get(digest) or self._begin(digest, photo)
        if (answer := self._read(output)) is not None:
            self._begun.pop(digest, None)
            return parse_response(answer)
        if failure is not None and (reason := self._read(failure)) is not None:
            self._begun.pop(digest, None)
            raise PredictionFailed(reason.decode("utf-8", "replace"))
        raise Busy(f"{output} does not exist yet; instances may still be starting")

    def _begin(self, digest: str, photo: bytes) -> tuple[str, str | None]:
        place = f"{self._answers}/photos/{digest}"
        bucket, key = split_uri(place)
        with aws_errors(f"upload {place}"):
            self._s3.put_object(Bucket=bucket, Key=key, Body=photo, **self._encryption)
        with _invoking(self._endpoint):
            response = self._runtime.invoke_endpoint_async(EndpointName=self._endpoint, InputLocation=place, **_KINDS)
        begun = self._begun[digest] = (response["OutputLocation"], response.get("FailureLocation"))
        return begun

    def _read(self, uri: str) -> bytes | None:
        bucket, key = split_uri(uri)
        with suppress(MissingError), aws_errors(f"read {uri}"):
            return bytes(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        return None


@contextmanager
def _invoking(endpoint: str) -> Iterator[None]:
    """Translates the errors of an endpoint."""
    with aws_errors(f"ask endpoint={endpoint}"):
        try:
            yield
        except ClientError as error:
            if (translated := _translated(error)) is None:
                raise
            raise translated from error
        except (ConnectionError, HTTPClientError) as error:
            raise Busy(str(error)) from error


def _translated(error: ClientError) -> Exception | None:
    code, message = code_of(error), message_of(error)
    if code == "ModelError":
        status = int(error.response.get("OriginalStatusCode") or 0)
        reason = error_message(str(error.response.get("OriginalMessage", "")), status)
        return Busy(reason) if status in BUSY else PredictionFailed(reason)
    return Busy(message) if code in CODES["busy"] else None

"""Invocations of endpoints: direct ones, and asynchronous ones through objects in S3."""

import base64
import json
import random
import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from werkzeug.wrappers import Request, Response

from local_sagemaker.calls import ACCOUNT, Answer, ApiError, JobFailure, Members
from local_sagemaker.rules.serving import MAX_BYTES, MAX_BYTES_SERVERLESS
from local_sagemaker.s3.objects import NoBucketError, Objects
from local_sagemaker.serving.endpoints import Endpoints
from local_sagemaker.serving.served_variant import ServedVariant, Unready

# An invocation takes 60 s at most.
_PATIENCE_SECONDS = 50.0
_PATIENCE_ASYNC_SECONDS = 900.0
_MARK = "X-Amzn-SageMaker-"
_ASYNC_HEADERS = ("Content-Type", "Accept")
# Body and content type of a request or an answer.
_Message = tuple[bytes, str]


class Invocations:
    """Hands requests to the containers of endpoints."""

    def __init__(self, endpoints: Endpoints, objects: Objects) -> None:
        self._endpoints, self._objects = endpoints, objects
        self._threads: list[threading.Thread] = []

    def invoke(self, name: str, later: bool, request: Request) -> Response:
        found = self._endpoints.find(name)
        if found is None:
            raise ApiError("ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")
        description, served = found
        if later != ("AsyncInferenceConfig" in description):
            other = "InvokeEndpoint" if later else "InvokeEndpointAsync"
            raise ApiError("ValidationError", f"Endpoint {name} is not of this kind: call {other}.")
        return self._later(description, served, request) if later else self._now(description, served, request)

    def close(self) -> None:
        """Waits for what was asked asynchronously."""
        for thread in self._threads:
            thread.join()

    def _now(self, description: Members, served: ServedVariant, request: Request) -> Response:
        name, body = description["EndpointName"], request.get_data()
        most = MAX_BYTES_SERVERLESS if "ServerlessConfig" in served.variant else MAX_BYTES
        if len(body) > most:
            raise ApiError("ValidationError", f"The body must have at most {most} bytes, got {len(body)}.")
        headers = {key: value for key, value in request.headers.items() if _is_handed_on(key)}
        if not served.turns.acquire(blocking=False):
            raise ApiError("ThrottlingException", f"{name} has its maximum of concurrent invocations.", 429)
        try:
            status, answer, kind = self._ask(name, served, body, headers, _PATIENCE_SECONDS)
        finally:
            served.turns.release()
        if status >= 400:
            said, side = answer.decode("utf-8", "replace"), "client" if status < 500 else "server"
            message = f"Received {side} error ({status}) from primary with message {said!r}."
            raise ApiError("ModelError", message, 424, {"OriginalStatusCode": status, "OriginalMessage": said})
        self._capture(description, served, (body, headers.get("Content-Type", "")), (answer, kind))
        response = Response(answer, content_type=kind)
        response.headers["x-Amzn-Invoked-Production-Variant"] = served.variant["VariantName"]
        return response

    def _ask(self, name: str, served: ServedVariant, body: bytes, headers: Mapping[str, str], seconds: float) -> Answer:
        try:
            return served.invoke(body, headers, seconds)
        except Unready as error:
            raise ApiError("ModelNotReadyException", f"The model of {name} is not ready yet.", 429) from error
        except (JobFailure, OSError) as error:
            raise ApiError("ServiceUnavailable", f"{name} does not answer: {error}", 503) from error

    def _later(self, description: Members, served: ServedVariant, request: Request) -> Response:
        given = request.headers.get(f"{_MARK}InputLocation")
        if given is None:
            raise ApiError("ValidationError", "Requests without an InputLocation are not emulated: they need AWS.")
        output = description["AsyncInferenceConfig"]["OutputConfig"]
        place, name = output["S3OutputPath"].rstrip("/"), str(uuid.uuid4())
        done = f"{place}/{name}.out"
        failed = f"{output.get('S3FailurePath', place).rstrip('/')}/{name}-error.out"
        headers = {key: value for key in _ASYNC_HEADERS if (value := request.headers.get(f"{_MARK}{key}"))}

        def answer() -> None:
            try:
                body = self._objects.find(given)
                if body is None:
                    raise ApiError("ClientError", f"There is no object {given}.")
                asked = (description["EndpointName"], served, body, headers, _PATIENCE_ASYNC_SECONDS)
                status, content, kind = self._ask(*asked)
                if status >= 400:
                    said = content.decode("utf-8", "replace")
                    raise ApiError("ModelError", f"Received server error ({status}) from model: {said}")
            except ApiError as error:
                self._write(failed, str(error).encode())
            else:
                self._capture(description, served, (body, headers.get("Content-Type", "")), (content, kind))
                self._write(done, content)

        self._threads.append(threading.Thread(target=answer, name="invocation"))
        self._threads[-1].start()
        response = Response(json.dumps({"InferenceId": name}), 202, content_type="application/json")
        response.headers[f"{_MARK}OutputLocation"], response.headers[f"{_MARK}FailureLocation"] = done, failed
        return response

    def _write(self, uri: str, content: bytes) -> None:
        try:
            self._objects.put(uri, content)
        except NoBucketError as error:
            raise RuntimeError(f"{uri} cannot be written: {error}") from error

    def _capture(self, description: Members, served: ServedVariant, asked: _Message, answered: _Message) -> None:
        config = description.get("DataCaptureConfig", {})
        if config.get("EnableCapture") and random.random() * 100 < config["CurrentSamplingPercentage"]:
            chosen = self._endpoints.captured(description["EndpointConfigName"])
            place = f"{description['EndpointName']}/{served.variant['VariantName']}"
            self._write(*_captured(chosen, place, asked, answered))


def _is_handed_on(header: str) -> bool:
    name = header.lower()
    return name in ("content-type", "accept") or name.startswith("x-amzn-sagemaker-custom")


def _captured(config: Members, place: str, asked: _Message, answered: _Message) -> tuple[str, bytes]:
    """Returns where a request and its answer are written to, and the line.

    The service gathers several in a file; here each has one of its own. `config` is the DataCaptureConfig, and
    `place` is `<endpoint>/<variant>`.
    """
    now, event = datetime.now(UTC), str(uuid.uuid4())
    modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
    headers = config.get("CaptureContentTypeHeader", {})
    captured: dict[str, Any] = {}
    if modes & {"Input", "InputAndOutput"}:
        captured["endpointInput"] = _side("INPUT", *asked, headers)
    if modes & {"Output", "InputAndOutput"}:
        captured["endpointOutput"] = _side("OUTPUT", *answered, headers)
    metadata = {"eventId": event, "inferenceTime": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
    line = {"captureData": captured, "eventMetadata": metadata, "eventVersion": "0"}
    folder = f"{config['DestinationS3Uri'].rstrip('/')}/{place}/{now:%Y/%m/%d/%H}"
    name = f"{now:%M-%S}-{now.microsecond // 1000:03}-{event}.jsonl"
    return f"{folder}/{name}", json.dumps(line).encode() + b"\n"


def _side(mode: str, body: bytes, content_type: str, headers: Members) -> dict[str, str]:
    kind = content_type.partition(";")[0].strip()
    found = {"observedContentType": content_type, "mode": mode}
    for name, encoding in (("CsvContentTypes", "CSV"), ("JsonContentTypes", "JSON")):
        if kind in headers.get(name, []):
            return {**found, "data": body.decode("utf-8", "replace"), "encoding": encoding}
    return {**found, "data": base64.b64encode(body).decode(), "encoding": "BASE64"}

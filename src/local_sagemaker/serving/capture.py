"""Data capture: requests and answers as lines of JSON in S3, in the layout of the service."""

import base64
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

#: Body and content type of a request or an answer.
Message = tuple[bytes, str]


def capture(
    config: Mapping[str, Any], endpoint: str, variant: str, asked: Message, answered: Message
) -> tuple[str, bytes]:
    """Returns where a request and its answer are written to, and the line.

    The service gathers several in a file; here each has one of its own. `config` is the DataCaptureConfig.
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
    place = f"{config['DestinationS3Uri'].rstrip('/')}/{endpoint}/{variant}/{now:%Y/%m/%d/%H}"
    name = f"{now:%M-%S}-{now.microsecond // 1000:03}-{event}.jsonl"
    return f"{place}/{name}", json.dumps(line).encode() + b"\n"


def _side(mode: str, body: bytes, content_type: str, headers: Mapping[str, Any]) -> dict[str, str]:
    kind = content_type.partition(";")[0].strip()
    found = {"observedContentType": content_type, "mode": mode}
    for name, encoding in (("CsvContentTypes", "CSV"), ("JsonContentTypes", "JSON")):
        if kind in headers.get(name, []):
            return {**found, "data": body.decode("utf-8", "replace"), "encoding": encoding}
    return {**found, "data": base64.b64encode(body).decode(), "encoding": "BASE64"}

"""Containers that cost nothing, and requests of serving, for the tests of rehearsed endpoints."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from local_sagemaker.calls import JobFailure
from tests.local_sagemaker.jobs import BUCKET, PATIENCE_SECONDS, ROLE

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/ray:serve-ml-sagemaker-cpu-v1.4"
ANSWER = {
    "prediction": 1,
    "breed": "Pug",
    "probability": 0.9,
    "top": [{"breed": "Pug", "index": 1, "probability": 0.9}],
}


class FakeContainer:
    """Answers which archive it serves.

    An archive that begins with `dies` never gets ready, one with `slow` waits for `release`; a request that begins
    with `wait` sets `asked` and is answered once `answer` is set.
    """

    made: list[FakeContainer] = []  # noqa: RUF012
    release, asked, answer = threading.Event(), threading.Event(), threading.Event()

    def __init__(
        self, archive: Path, directory: Path, environment: Mapping[str, str], log: Callable[[str], None]
    ) -> None:
        self.content = archive.read_text()
        self.environment, self.log, self.closed = dict(environment), log, False
        assert directory.is_dir()
        self.made.append(self)

    def start(self) -> None:
        self.log(f"serving {self.content}")

    def ready(self) -> bool:
        if self.content.startswith("dies"):
            self.log("ImportError: no module named deployment")
            raise JobFailure("The container ended with 1.")
        return not self.content.startswith("slow") or self.release.is_set()

    def invoke(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, str]:
        assert not self.closed
        if body.startswith(b"bad"):
            error = {"error": {"code": "unreadable_image", "message": "The photo cannot be read."}}
            return 422, json.dumps(error).encode(), "application/json"
        if body.startswith(b"wait"):
            self.asked.set()
            assert self.answer.wait(60)
        return 200, json.dumps({**ANSWER, "served": self.content}).encode(), "application/json"

    def close(self) -> None:
        self.closed = True


def archive(client: Callable[[str], Any], content: str = "first") -> str:
    """Puts what a fake container takes for an archive into S3, and returns its address."""
    client("s3").put_object(Bucket=BUCKET, Key=f"files/{content}/model.tar.gz", Body=content.encode())
    return f"s3://{BUCKET}/files/{content}/model.tar.gz"


def model(name: str, uri: str, **container: Any) -> dict[str, Any]:
    return {
        "ModelName": name,
        "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": uri, **container},
        "ExecutionRoleArn": ROLE,
    }


def config(name: str, model_name: str, variant: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    instances = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    one = {"VariantName": "AllTraffic", "ModelName": model_name, **(instances if variant is None else variant)}
    return {"EndpointConfigName": name, "ProductionVariants": [one], **members}


def prepared(client: Callable[[str], Any], name: str, content: str = "first", **members: Any) -> None:
    """Makes a model and an endpoint configuration of the same name."""
    sagemaker = client("sagemaker")
    sagemaker.create_model(**model(name, archive(client, content)))
    sagemaker.create_endpoint_config(**config(name, name, **members))


def settled(sagemaker: Any, name: str) -> dict[str, Any]:
    """Waits until nothing happens to an endpoint any more."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=name)
        if found["EndpointStatus"] in ("InService", "Failed"):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)

"""The services that moto answers for: S3, IAM, STS, autoscaling, alarms."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.wrappers import Request, Response

from local_sagemaker.calls import ACCOUNT
from local_sagemaker.faults import Faults

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

#: By the name that a request is signed for, moto's name of the service.
BACKENDS: Mapping[str, str] = {
    "s3": "s3",
    "iam": "iam",
    "sts": "sts",
    "application-autoscaling": "applicationautoscaling",
    "monitoring": "cloudwatch",
}
_REFUSED = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{code}</Code><Message>{message}</Message></Error>"""


class Moto:
    """Moto's services, without moto's own search for the one that a request is for, which takes as long again."""

    def __init__(self) -> None:
        # Names of services are checked by moto itself.
        create: Any = create_backend_app
        self._applications: dict[str, WSGIApplication] = {name: create(moto) for name, moto in BACKENDS.items()}

    def answer(self, service: str, request: Request, start_response: StartResponse, faults: Faults) -> Iterable[bytes]:
        if service == "s3" and (refused := _refusal(request, faults)) is not None:
            return refused(request.environ, start_response)
        # What was read here is read once more.
        body = request.get_data()
        environ = {**request.environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        return self._applications[service](environ, start_response)


def refuse_s3(code: str, message: str, status: int) -> Response:
    return Response(_REFUSED.format(code=code, message=message), status, content_type="application/xml")


def _refusal(request: Request, faults: Faults) -> Response | None:
    """Returns what S3 answers and moto does not: to the owner that is expected, and to wrong checksums."""
    bucket = unquote(urlsplit(request.environ["RAW_URI"]).path).removeprefix("/").partition("/")[0]
    owner = "999999999999" if bucket in faults.foreign_buckets else ACCOUNT
    if request.headers.get("x-amz-expected-bucket-owner", owner) != owner:
        return refuse_s3("AccessDenied", "Access Denied", 403)
    promised = request.headers.get("x-amz-checksum-sha256")
    if promised is not None and request.method == "PUT":
        sent = base64.b64encode(hashlib.sha256(request.get_data()).digest()).decode()
        if sent != promised:
            return refuse_s3("BadDigest", "The SHA256 you specified did not match the calculated checksum.", 400)
    return None

"""S3, IAM and STS by moto; its objects are written to disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wrappers import Response
from werkzeug.wsgi import wrap_file

from dogbreeds.sagemaker.rehearsal.objects import Objects

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# What moto answers for; nothing else of it is part of a rehearsal.
SERVICES: Sequence[Literal["s3", "iam", "sts"]] = ("s3", "iam", "sts")
_SENT_BYTES = 1 << 18


class MotoServices:
    """Moto's services, without moto's own search for the one that a request is for, which takes as long again."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._applications: dict[str, WSGIApplication] = {
            service: create_backend_app(service) for service in SERVICES
        }

    def answer(self, service: str, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        application = self._applications[service]
        if service != "s3":
            return application(environ, start_response)
        bucket, _, key = unquote(urlsplit(environ["RAW_URI"]).path).removeprefix("/").partition("/")
        if environ["REQUEST_METHOD"] == "GET" and key and not environ["QUERY_STRING"]:
            return self._send(bucket, key, environ, start_response)
        answer = application(environ, start_response)
        if environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE"):
            # Before the answer goes out: what a client knows to be there is there.
            self._objects.keep(bucket, key)
        return answer

    def _send(
        self, bucket: str, key: str, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answers with an object or a part of it; for each part that is asked for, moto would read the whole."""
        application = self._applications["s3"]
        path = self._objects.find(bucket, key)
        head = Response.from_app(application, {**environ, "REQUEST_METHOD": "HEAD", "HTTP_RANGE": ""}, buffered=True)
        if path is None or head.status_code != 200:
            return application(environ, start_response)
        file = path.open("rb")
        size = os.fstat(file.fileno()).st_size
        response = Response(wrap_file(environ, file, _SENT_BYTES), headers=head.headers, direct_passthrough=True)
        try:
            response.make_conditional(environ, accept_ranges=True, complete_length=size)
        except RequestedRangeNotSatisfiable:
            file.close()
            return application(environ, start_response)
        # Those of a HEAD are of the whole, and moto gives those of several parts as if they were of one.
        for name in {name for name, _ in response.headers if name.lower().startswith("x-amz-checksum-")}:
            del response.headers[name]
        return response(environ, start_response)

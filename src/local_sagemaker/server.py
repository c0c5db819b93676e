"""The port: each request goes to the service that it was signed for."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import ThreadedWSGIServer
from werkzeug.wrappers import Request, Response

from local_sagemaker.admission import refuse, unsupported
from local_sagemaker.calls import ApiError, Call, Members, Operation, invalid
from local_sagemaker.client import CONTROL
from local_sagemaker.context import Context
from local_sagemaker.faults import Faults
from local_sagemaker.rules import service_model
from local_sagemaker.rules.jobs import problems_between
from local_sagemaker.s3.moto import BACKENDS, Moto, refuse_s3

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_LOG = logging.getLogger(__name__)
_SCOPE = re.compile(r"Credential=(?P<key>[^/]+)/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
_PREFIXES = {"sagemaker": "SageMaker.", "logs": "Logs_20140328.", "application-autoscaling": "AnyScaleFrontendService."}
# Invocations are signed as the rest of SageMaker is; only the path tells them from it.
_INVOCATION = re.compile(r"/endpoints/(?P<endpoint>[^/]+)/(?P<way>async-invocations|invocations)")
_JSON = "application/x-amz-json-1.1"


#: Answers an invocation: given the name of the endpoint, whether it is asynchronous, and the request.
Invoke = Callable[[str, bool, Request], Response]
Application = Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]


@dataclass
class Dispatcher:
    """Checks requests and passes them to their services; a WSGI application.

    Operations are by service and name, such as `operations["sagemaker"]["CreateTrainingJob"]`; those that are there
    for a service of moto's look at a request before moto does.
    """

    operations: Mapping[str, Mapping[str, Operation]]
    invoke: Invoke
    moto: Moto
    context: Context
    #: When the last request came, by `time.monotonic`.
    asked: float = field(default_factory=time.monotonic)
    _calls: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.asked = time.monotonic()
        request = Request(environ)
        scope = _SCOPE.search(request.headers.get("Authorization", ""))
        if scope is None or not secrets.compare_digest(scope["key"].encode(), self.context.key.encode()):
            response = refuse_s3("InvalidAccessKeyId", "Requests need the key that the service has printed.", 403)
            return response(environ, start_response)
        try:
            if request.path == CONTROL:
                return self._control(request)(environ, start_response)
            answer = self._answer(scope["service"], scope["region"], request)
            if answer is None:
                return self.moto.answer(scope["service"], request, start_response, self.context.faults)
            response = answer
        except ApiError as error:
            response = _refusal(error)
            if scope["service"] == "s3":
                response = refuse_s3(error.code.removesuffix("Exception"), error.message, error.status)
        except _LostAnswer:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            response = Response(status=500)
        except Exception:
            _LOG.exception("Failed to answer %s", request.headers.get("X-Amz-Target", request.path))
            response = _refusal(ApiError("InternalFailure", "The service itself failed; see its log.", 500))
        response.headers["x-amzn-RequestId"] = str(uuid.uuid4())
        return response(environ, start_response)

    def _control(self, request: Request) -> Response:
        """Lets the client of this process set faults; answers who this is."""
        if request.method == "PUT":
            with self._lock:
                self.context.faults = Faults(**json.loads(request.get_data()))
                self._calls.clear()
        return Response(json.dumps({"pid": os.getpid()}), content_type=_JSON)

    def _answer(self, service: str, region: str, request: Request) -> Response | None:
        """Returns the answer; None where moto is to give it."""
        if service in BACKENDS and service not in self.operations:
            self._fail(service)
            return None
        if service not in self.operations:
            raise ApiError("UnknownOperationException", f"There is no service {service} here.")
        invocation = _INVOCATION.fullmatch(request.path)
        if service == "sagemaker" and invocation:
            later = invocation["way"] != "invocations"
            self._fail("InvokeEndpointAsync" if later else "InvokeEndpoint")
            return self.invoke(invocation["endpoint"], later, request)
        name = request.headers.get("X-Amz-Target", "").removeprefix(_PREFIXES[service])
        operation = self.operations[service].get(name)
        known = name in service_model.operations(service)
        if operation is None and not (known and service in BACKENDS):
            why = "is not emulated: it needs AWS" if known else "is not an operation of this service"
            raise ApiError("UnknownOperationException", f"{name or 'A request without a target'} {why}.")
        self._fail(name)
        body = _checked(service, name, request)
        answer = operation(Call(region, body)) if operation else {}
        if self._is_faulty(f"answer of {name}", self.context.faults.lost_answers.get(name, 0)):
            raise _LostAnswer
        return None if service in BACKENDS else Response(json.dumps(answer), content_type=_JSON)

    def _fail(self, name: str) -> None:
        faults = self.context.faults
        if self._is_faulty(f"throttled {name}", faults.throttled.get(name, 0)):
            raise ApiError("ThrottlingException", "Rate exceeded")
        if self._is_faulty(f"expired {name}", faults.expired.get(name, 0)):
            raise ApiError("ExpiredTokenException", "The security token included in the request is expired")

    def _is_faulty(self, what: str, count: int) -> bool:
        if not count:
            return False
        with self._lock:
            self._calls[what] += 1
            return self._calls[what] <= count


class _LostAnswer(Exception):
    """What was asked is done, and nobody hears of it."""


def _checked(service: str, name: str, request: Request) -> Members:
    """Returns the members of a request, which is refused with all that is wrong with it."""
    try:
        body: Members = json.loads(request.get_data() or b"{}")
    except ValueError as error:
        raise ApiError("SerializationException", f"The request is not JSON: {error}") from error
    if problems := service_model.problems(name, body, service):
        found = "; ".join(f"Value at '{problem.path}' {problem.message}" for problem in problems)
        raise invalid(f"{len(problems)} validation error{'s' * (len(problems) > 1)} detected: {found}")
    refuse(unsupported(body))
    refuse(f"{one.path} {one.message}." for one in problems_between(name, body))
    return body


def _refusal(error: ApiError) -> Response:
    body = json.dumps({"__type": error.code, "message": error.message, **error.details})
    return Response(body, error.status, {"x-amzn-errortype": error.code}, content_type=_JSON)


class _Handler(MotoRequestHandler):
    # An answer comes in two packets, and the second one must not wait for the first to be acknowledged.
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        cast(Server, self.server).connections.add(self.connection)

    def finish(self) -> None:
        cast(Server, self.server).connections.discard(self.connection)
        super().finish()

    def log(self, type: str, message: str, *args: Any) -> None:
        _LOG.debug(message, *args)


class Server(ThreadedWSGIServer):
    """Serves a WSGI application on a free port of the loopback device, from threads that end with it."""

    # Those that are joined when the server is closed.
    daemon_threads = False
    block_on_close = True

    def __init__(self) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__("127.0.0.1", 0, Response(status=503), handler=_Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, name="server")

    def start(self, application: Application) -> None:
        self.app = application
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Ends, also the connections that clients keep open."""
        self.shutdown()
        self._thread.join()
        for connection in list(self.connections):
            # A client may have been faster to hang up.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

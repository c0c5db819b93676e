"""The port of a rehearsal: each request goes to the service that it was signed for."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import ThreadedWSGIServer
from werkzeug.wrappers import Request, Response

from dogbreeds.sagemaker import service_model
from dogbreeds.sagemaker.limits import problems_between
from dogbreeds.sagemaker.rehearsal.checks import refuse
from dogbreeds.sagemaker.rehearsal.faults import ApiError, Faults, invalid
from dogbreeds.sagemaker.rehearsal.moto_services import SERVICES, MotoServices
from dogbreeds.sagemaker.rehearsal.unsupported import unsupported

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_LOG = logging.getLogger(__name__)
_SCOPE = re.compile(r"Credential=[^/]+/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
_PREFIXES = {
    "sagemaker": "SageMaker.",
    "logs": "Logs_20140328.",
    "application-autoscaling": "AnyScaleFrontendService.",
}
# Invocations are signed as the rest of SageMaker is; only the path tells them from it.
_INVOCATION = re.compile(r"/endpoints/(?P<endpoint>[^/]+)/(?P<way>async-invocations|invocations)")
_JSON = "application/x-amz-json-1.1"


@dataclass(frozen=True)
class Call:
    """A request that has passed the service model."""

    region: str
    body: Mapping[str, Any]


Operation = Callable[[Call], Mapping[str, Any]]
#: Answers an invocation: given the name of the endpoint, whether it is asynchronous, and the request.
Invoke = Callable[[str, bool, Request], Response]
Application = Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]


@dataclass
class Dispatcher:
    """Checks requests and passes them to their services; a WSGI application.

    Operations are by service and name, such as `operations["sagemaker"]["CreateTrainingJob"]`.
    """

    operations: Mapping[str, Mapping[str, Operation]]
    invoke: Invoke
    moto: MotoServices
    faults: Faults
    _calls: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        scope = _SCOPE.search(request.headers.get("Authorization", ""))
        service = scope["service"] if scope else "s3"
        if service in SERVICES:
            return self.moto.answer(service, environ, start_response)
        try:
            if service not in self.operations or scope is None:
                raise ApiError("UnknownOperationException", f"A rehearsal has no service {service}.")
            invocation = _INVOCATION.fullmatch(request.path)
            if service == "sagemaker" and invocation:
                later = invocation["way"] != "invocations"
                self._throttle("InvokeEndpointAsync" if later else "InvokeEndpoint")
                response = self.invoke(invocation["endpoint"], later, request)
            else:
                answer = self._answer(service, scope["region"], request)
                response = Response(json.dumps(answer), content_type=_JSON)
        except ApiError as error:
            response = _refusal(error)
        except Exception:
            _LOG.exception("The rehearsal failed to answer %s", request.headers.get("X-Amz-Target", request.path))
            response = _refusal(ApiError("InternalFailure", "The rehearsal itself failed; see its log.", 500))
        response.headers["x-amzn-RequestId"] = str(uuid.uuid4())
        return response(environ, start_response)

    def _answer(self, service: str, region: str, request: Request) -> Mapping[str, Any]:
        target = request.headers.get("X-Amz-Target", "")
        name = target.removeprefix(_PREFIXES[service])
        operation = self.operations[service].get(name)
        if operation is None:
            known = name in service_model.operations(service)
            why = "is not rehearsed: it needs AWS" if known else "is not an operation of this service"
            raise ApiError("UnknownOperationException", f"{name or 'A request without a target'} {why}.")
        self._throttle(name)
        try:
            body = json.loads(request.get_data() or b"{}")
        except ValueError as error:
            raise ApiError("SerializationException", f"The request is not JSON: {error}") from error
        problems = service_model.problems(name, body, service)
        if problems:
            found = "; ".join(f"Value at '{problem.path}' {problem.message}" for problem in problems)
            raise invalid(f"{len(problems)} validation error{'s' * (len(problems) > 1)} detected: {found}")
        refuse(unsupported(body))
        refuse(f"{one.path} {one.message}." for one in problems_between(name, body))
        return operation(Call(region, body))

    def _throttle(self, name: str) -> None:
        with self._lock:
            self._calls[name] += 1
            if self._calls[name] <= self.faults.throttled.get(name, 0):
                raise ApiError("ThrottlingException", "Rate exceeded")


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
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, name="rehearsal")

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
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                _LOG.debug("a client was faster to hang up")
        self.server_close()

"""Runs the server: from a package's directory to a port, until a signal ends it."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import math
import signal
import socket
import time
import warnings
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from PIL import Image
from starlette.types import Receive, Scope, Send

from dogbreeds.errors import ConfigError
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.limits import Limits
from dogbreeds.package.messages import HttpError
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve.app import Application, error_response
from dogbreeds.serve.site import application as local_application

log = logging.getLogger(__name__)

# Proxies in front of a server keep connections for about a minute, and should be the ones that close them.
_KEEP_ALIVE_SECONDS = 75
# Connections that wait to be accepted; systems have lower limits of their own.
_BACKLOG = 2048
_CHECK_SECONDS = 0.25
# After a signal, requests that are on their way still arrive, and their responses close the connections.
_DRAIN_SECONDS = 1.0
_TIMEOUT_RESPONSE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _Server(uvicorn.Server):
    """uvicorn's server with a limit on the time that headers take, and with time to drain after a signal.

    uvicorn itself waits for headers without end, and at a signal closes connections on which a request is arriving.
    """

    def __init__(self, application: Application, limits: Limits) -> None:
        super().__init__(
            uvicorn.Config(
                self._serve_request,
                interface="asgi3",
                # Unlike httptools, h11 has a limit on the size of headers.
                http="h11",
                h11_max_incomplete_event_size=limits.header_bytes,
                # uvicorn refuses when the limit is reached, not when it is exceeded.
                limit_concurrency=limits.connections + 1,
                ws="none",
                lifespan="on",
                backlog=_BACKLOG,
                log_config=None,
                log_level=logging.ERROR,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                # Requests that have begun to arrive are received and answered within their own limits.
                timeout_graceful_shutdown=math.ceil(limits.receive_seconds + limits.answer_seconds),
            )
        )
        self._application, self._header_seconds = application, limits.receive_seconds
        self._header_bytes = limits.header_bytes
        # Addresses of clients: with an open request, of connections that have had one, and since when others wait.
        self._open: set[tuple[Any, ...]] = set()
        self._used: set[tuple[Any, ...]] = set()
        self._waiting: dict[tuple[Any, ...], float] = {}
        self._stopping = asyncio.Event()

    async def _serve_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        # h11 limits only headers that arrive in several reads.
        if sum(len(name) + len(value) for name, value in scope.get("headers", ())) > self._header_bytes:
            refused = HttpError(431, "headers_too_large", f"The headers have more than {self._header_bytes} bytes.")
            await error_response(refused, retry_after=0)(scope, receive, send)
            return
        client = scope["client"]
        self._open.add(client)
        self._used.add(client)
        self._waiting.pop(client, None)
        try:
            await self._application(scope, receive, send)
        finally:
            self._open.discard(client)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        watch = asyncio.create_task(self._watch())
        drain = asyncio.create_task(self._drain())
        try:
            await super().serve(sockets)
        finally:
            watch.cancel()
            drain.cancel()

    async def _watch(self) -> None:
        while True:
            self._close_slow_connections(time.monotonic())
            await asyncio.sleep(_CHECK_SECONDS)

    def _close_slow_connections(self, now: float) -> None:
        found = [connection.transport for connection in self.server_state.connections]
        transports = {tuple(peer[:2]): one for one in found if (peer := one.get_extra_info("peername"))}
        self._used &= transports.keys()
        idle = transports.keys() - self._open
        self._waiting = {client: self._waiting.get(client, now) for client in idle}
        for client, since in self._waiting.items():
            if now - since > (_KEEP_ALIVE_SECONDS if client in self._used else self._header_seconds):
                transports[client].write(_TIMEOUT_RESPONSE)
                transports[client].close()

    async def _drain(self) -> None:
        await self._stopping.wait()
        self._application.stop()
        await asyncio.sleep(_DRAIN_SECONDS)
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to drain at the first signal, and exits at once at the second."""
        if self._stopping.is_set():
            super().handle_exit(sig, frame)
        else:
            self._loop.call_soon_threadsafe(self._stopping.set)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handles signals while it serves, without sending them to itself once more at the end."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(package: Path, limits: Limits, *, host: str, port: int, cache: Path) -> None:
    """Serves a package until SIGTERM or SIGINT; open requests are still answered then.

    Args:
        port: To listen on; 0 takes a free one, which the first line on stdout names.
        cache: The directory of the feature store, which caches the converted network too.

    Raises:
        PackageError: There is no package, or it is damaged.
        ConfigError: Host or port cannot be used.
    """
    predictor = Predictor.load(package, cache=BlobCache.of(cache))
    # This process does nothing else. Pillow's own limit also covers what its decoders allocate.
    Image.MAX_IMAGE_PIXELS = limits.pixels
    # Such photos are refused.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    application = local_application(predictor, package, limits)
    with _listening(host, port) as listener:
        address, bound = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        print(f"Serving {package} at http://{shown}:{bound} (Ctrl+C stops it).", flush=True)
        if not ipaddress.ip_address(address).is_loopback:
            log.warning("host=%s: anyone who can reach this machine can use the server, without authentication.", host)
        _Server(application, limits).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """Returns a listening socket; clients may connect, and wait until uvicorn accepts them."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except UnicodeError as error:
        raise ConfigError(f"host={host} is not a valid host name ({error}).") from error
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: f"port={port} is in use: choose another one, or port=0 for a free one.",
            errno.EACCES: f"port={port}: ports below 1024 need root; choose one above 1023.",
        }
        other = f"Cannot listen on host={host} port={port}: {error.strerror or error}."
        raise ConfigError(reasons.get(error.errno or 0, other)) from error

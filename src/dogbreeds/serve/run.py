"""Runs the server: from a package's directory to a port, until a signal ends it."""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import logging
import math
import signal
import socket
import warnings
from collections.abc import Generator
from pathlib import Path
from types import FrameType

import uvicorn
from PIL import Image

from dogbreeds.errors import ConfigError
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.package.predictor import Handler
from dogbreeds.schema import Limits
from dogbreeds.serve.app import Application
from dogbreeds.serve.protocol import LimitedProtocol

log = logging.getLogger(__name__)

# Proxies in front of a server keep connections for about a minute, and must be the ones that close them.
_KEEP_ALIVE_SECONDS = 75
_LAST_PORT = 65_535
# Connections that wait to be taken; systems have lower limits of their own.
_BACKLOG = 2048


class _Server(uvicorn.Server):
    """uvicorn's server, which after a signal has done its work: it does not send the signal to itself again."""

    def __init__(self, config: uvicorn.Config, application: Application) -> None:
        super().__init__(config)
        self._application = application

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._application.stopping = True
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(package: Path, limits: Limits, *, host: str, port: int, cache: Path) -> None:
    """Serves a package until SIGTERM or SIGINT, after which all that was asked is still answered.

    Args:
        package: A model package.
        limits: What is taken from clients.
        host: Name or address of the network device to listen on.
        port: To listen on; 0 takes a free one, which the first line on stdout names.
        cache: The directory of the feature store, which keeps the converted network too.

    Raises:
        PackageError: There is no package, or it is damaged.
        ConfigError: Host or port cannot be used.
    """
    handler = Handler.load(package, keeper=BlobCache.of(cache))
    Image.MAX_IMAGE_PIXELS = limits.pixels
    # Such photos are refused, and that is all there is to say.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    application = Application(handler, package, limits)
    with _listening(host, port) as listener:
        config = uvicorn.Config(
            application,
            http=functools.partial(LimitedProtocol, limits, application.on_refusal),  # type: ignore[arg-type]
            ws="none",
            lifespan="on",
            backlog=_BACKLOG,
            log_config=None,
            log_level=logging.ERROR,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            # What has begun to arrive is received and answered within its own limits.
            timeout_graceful_shutdown=math.ceil(2 * limits.receive_seconds + limits.answer_seconds),
        )
        address, bound = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        print(f"Serving {package} at http://{shown}:{bound} (Ctrl+C ends it).", flush=True)
        if not ipaddress.ip_address(address).is_loopback:
            log.warning("host=%s: whoever reaches this machine can ask. There is no authentication.", host)
        _Server(config, application).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """Returns a socket that listens: clients may come, and wait until uvicorn takes them.

    Raises:
        ConfigError: That is not possible.
    """
    if not 0 <= port <= _LAST_PORT:
        raise ConfigError(f"port={port}: must be between 0 and {_LAST_PORT}.")
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, number)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except UnicodeError as error:
        raise ConfigError(f"host={host} is no name of a machine ({error}).") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port={port} is taken: choose another one, or port=0 for any that is free.") from error
        if error.errno == errno.EACCES:
            raise ConfigError(f"port={port} is not for everybody: choose one above 1023.") from error
        raise ConfigError(f"host={host} port={port} cannot be listened on: {error.strerror or error}.") from error
    return listener

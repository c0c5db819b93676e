"""HTTP as uvicorn speaks it, with limits on headers, refusals in JSON, and nothing lost when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from dogbreeds.package.messages import Refused
from dogbreeds.schema import Limits
from dogbreeds.serve.edge import LINGER_SECONDS

# A request may be on its way when the server begins to stop; who is then idle is given this many seconds.
_LAST_CHANCE_SECONDS = 0.5
_NO_HTTP = "This is no HTTP/1.1 request."


class _HeadersTooLargeError(Exception):
    pass


class LimitedProtocol(HttpToolsProtocol):
    """One connection.

    uvicorn waits without end for headers of any size, answers what it cannot read in plain text, and closes
    connections on which a request has begun to arrive when it stops.
    """

    def __init__(
        self,
        limits: Limits,
        on_refusal: Callable[[int], object],
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Waits for a connection.

        Args:
            limits: Those on headers and connections are kept here.
            on_refusal: Told the status of each answer that no application gave.
            config: uvicorn's, as all that follows.
            server_state: What all connections share.
            app_state: What the application keeps.
            _loop: Of the server.
        """
        super().__init__(config, server_state, app_state, _loop)
        self._limits, self._on_refusal = limits, on_refusal
        self._patience: asyncio.TimerHandle | None = None
        # Of the headers that are being read: bytes that were understood, and bytes that came.
        self._read, self._came = 0, 0
        self._begun = self._over = self._stopping = False
        self._open: list[RequestResponseCycle] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for headers."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._refuse(Refused(503, "busy", f"{self._limits.connections} connections are open: try again later."))
            return
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells all requests that are open; uvicorn tells the last of those that were sent at once."""
        self._stop_waiting()
        for cycle in self._open:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on."""
        if self._over:
            return
        if self._idle and not self._begun:
            self._wait_for_headers()
            self._begun = True
        in_headers = self._begun
        self._feed(data)
        if in_headers and self._begun and not self._over:
            self._came += len(data)
            if self._came > self._limits.header_bytes:
                self._refuse(self._headers_too_large())

    def _feed(self, data: bytes) -> None:
        """Reads on as uvicorn does, which loses the body of a request that asks for another protocol."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.parser.get_method() == b"CONNECT":
                self.send_400_response(_NO_HTTP)
                return
            # Read once more as a request that does not ask for it.
            lines = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url), b"connection: close"]
            lines += [b"%s: %s" % header for header in self.headers if header[0] not in (b"connection", b"upgrade")]
            self.parser = httptools.HttpRequestParser(self)
            self._feed(b"\r\n".join([*lines, b"\r\n"]) + data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response(_NO_HTTP)

    def on_message_begin(self) -> None:
        """Begins to count."""
        self._read = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Counts the bytes of the first line."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts the bytes of a header."""
        self._count(name, value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stops waiting, and hands the request to the application."""
        if self.parser.should_upgrade():
            return
        self._stop_waiting()
        self._begun, self._came = False, 0
        super().on_headers_complete()
        self._open = [cycle for cycle in (*self._open, self.cycle) if not cycle.response_complete]
        if self._stopping:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Ends a request, but one that will be read once more."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP, but not before what came before it is answered."""
        if self._idle:
            large = self._read > self._limits.header_bytes
            self._refuse(self._headers_too_large() if large else Refused(400, "broken_request", _NO_HTTP))
        elif not self.cycle.more_body:
            self.cycle.keep_alive = False
            self._over = True
        elif self.pipeline or self.cycle.response_started:
            self.transport.close()
        else:
            # A body in broken chunks: the application hears that its client has gone.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._refuse(Refused(400, "broken_request", _NO_HTTP))

    def shutdown(self) -> None:
        """Lets a request that has begun to arrive end; uvicorn calls it when the server stops."""
        self._stopping = True
        if not self._idle:
            self.cycle.keep_alive = False
        elif not self._begun:
            self.loop.call_later(_LAST_CHANCE_SECONDS, self._close_if_idle)

    @property
    def _idle(self) -> bool:
        """Whether no request is open, but perhaps one whose headers are still coming."""
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._idle and not self._begun:
            self.transport.close()

    def _wait_for_headers(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(self._limits.receive_seconds, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _too_slow(self) -> None:
        seconds = self._limits.receive_seconds
        self._refuse(Refused(408, "too_slow", f"No complete headers came within {seconds:g} seconds."))

    def _count(self, *parts: bytes) -> None:
        self._read += sum(map(len, parts))
        if self._read > self._limits.header_bytes:
            # httptools stops reading, and uvicorn calls send_400_response.
            raise _HeadersTooLargeError

    def _headers_too_large(self) -> Refused:
        return Refused(431, "headers_too_large", f"The headers have more than {self._limits.header_bytes} bytes.")

    def _refuse(self, refused: Refused) -> None:
        """Answers without the application, and closes when the client has had time to read it."""
        self._over = True
        self._stop_waiting()
        self._on_refusal(refused.status)
        body = refused.body()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if refused.status == 503:
            headers.append((b"retry-after", b"1"))
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[refused.status] + lines + b"\r\n" + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

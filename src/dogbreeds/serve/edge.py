"""The outermost layer of the application: headers of every answer, counting, and a good end for refused uploads."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dogbreeds.serve.metrics import Metrics

#: Seconds for which a client that was refused may go on sending. Closing at once would reset the connection, and it
#: would never read why.
LINGER_SECONDS = 2.0
INVOCATIONS = "/invocations"
_SECURITY = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_CLOSE = (b"connection", b"close")


class Edge:
    """Wraps an ASGI application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        """Takes what every request passes through.

        Args:
            app: What answers.
            metrics: Counts.
            routes: Paths that are counted by name.
        """
        self._app, self._metrics, self._routes = app, metrics, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        exchange = _Exchange(scope, receive, send)
        began = time.perf_counter()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            if exchange.status:
                route = path if path in self._routes else "other"
                self._metrics.requests.labels(route, str(exchange.status)).inc()
                if path == INVOCATIONS:
                    self._metrics.seconds.observe(time.perf_counter() - began)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._received = not any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in scope["headers"]
        )
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._received = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], *_SECURITY]
            if not self._received:
                headers.append(_CLOSE)
            await self._send({**message, "headers": headers})
        elif self._received or message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._linger()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._received:
                    await self.receive()
        except TimeoutError:
            # The connection ends now, whatever still comes.
            return

"""The outermost layer of the application: security headers, counting, and refusals that clients can read."""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Seconds for which a refused client may go on sending. Closing at once would reset the connection, and the client
#: would never read the refusal.
LINGER_SECONDS = 2.0
#: Paths that take photos. The containers of SageMaker post to the root.
INVOCATIONS = ("/invocations", "/")
_POLICY = (
    b"default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    b"frame-ancestors 'none'"
)
_SECURITY = (
    *((b"content-security-policy", _POLICY), (b"x-content-type-options", b"nosniff")),
    (b"referrer-policy", b"no-referrer"),
)
_CLOSE = (b"connection", b"close")


class Observer:
    """Sees what a server does. This one ignores it; `metrics.Metrics` counts."""

    def request(self, path: str, status: int, seconds: float) -> None:
        """Sees a response, and the seconds from the headers of its request to its end."""

    def photos(self, count: int, unknown: int) -> None:
        """Sees the photos of a request that was answered, and how many of them show none of the breeds."""

    def batch(self, size: int) -> None:
        """Sees a batch, in the thread that computed it."""


class Middleware:
    """Wraps an ASGI application; while `stopping` is true, each response closes its connection."""

    def __init__(self, app: ASGIApp, observer: Observer) -> None:
        self._app, self._observer = app, observer
        self.stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, closing=self.stopping)
        began = time.perf_counter()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            if exchange.status:
                self._observer.request(scope["path"], exchange.status, time.perf_counter() - began)


class _Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, closing: bool) -> None:
        self._receive, self._send, self._closing = receive, send, closing
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
            if self._closing or not self._received:
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
            # The connection is closed now, whatever the client still sends.
            return

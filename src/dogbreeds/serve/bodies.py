"""Receives the bodies of requests, which may be too large, too slow, too many, or never complete."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

from dogbreeds.limits import RequestLimits
from dogbreeds.package.messages import HttpError


class ClientGoneError(Exception):
    """The client has closed its connection, so there is nobody to answer."""


class OpenRequests:
    """Admits requests within the limits; `held` is the bytes of the bodies of all open ones."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._per_client: Counter[str] = Counter()
        self.held = 0

    @contextmanager
    def admit(self, client: str) -> Iterator[Body]:
        """Counts a request while it is open, and releases its body at the end; 429 where this client has too many."""
        limit = self._limits.per_client
        if limit is not None and self._per_client[client] >= limit:
            said = f"{client} has {limit} open requests already: wait for a response."
            raise HttpError(429, "too_many_requests", said)
        body = Body(self, self._limits)
        self._per_client[client] += 1
        try:
            yield body
        finally:
            self.held -= body.size
            self._per_client[client] -= 1
            if not self._per_client[client]:
                del self._per_client[client]


class Body:
    """The body of one request."""

    def __init__(self, requests: OpenRequests, limits: RequestLimits) -> None:
        self._requests, self._limits = requests, limits
        self.size = 0

    async def read(self, announced: int, receive: Receive) -> bytes:
        """Returns the whole body, whose Content-Length was `announced`; 0 where there was none.

        Raises:
            HttpError: 413 when it is too large, even if only announced; 408 when it is too slow; 503 when all open
                requests together hold too much.
            ClientGoneError: The connection was closed.
        """
        if announced > self._limits.body_bytes:
            self._refuse_size()
        parts = []
        try:
            async with asyncio.timeout(self._limits.receive_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    part: bytes = message.get("body", b"")
                    self._hold(len(part))
                    parts.append(part)
                    more = message.get("more_body", False)
        except TimeoutError as error:
            seconds = f"{self._limits.receive_seconds:g} seconds"
            said = f"The body is incomplete after {seconds}: got {self.size} bytes."
            raise HttpError(408, "too_slow", said) from error
        return b"".join(parts)

    def _hold(self, size: int) -> None:
        if self.size + size > self._limits.body_bytes:
            self._refuse_size()
        if self._requests.held + size > self._limits.held_bytes:
            raise HttpError(503, "busy", "The memory for request bodies is full: try again later.")
        self.size += size
        self._requests.held += size

    def _refuse_size(self) -> None:
        most = f"{self._limits.body_bytes} bytes (limits.body_bytes)"
        raise HttpError(413, "too_large", f"The body must be at most {most}.")

"""Takes in the bodies of requests, as far as the limits allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

from dogbreeds.package.messages import Refused
from dogbreeds.schema import Limits
from dogbreeds.serve.receiving import received


class Intake:
    """Knows what all open requests hold, and receives each within its limits.

    Attributes:
        held: Bytes of the bodies of all requests that are open.
    """

    def __init__(self, limits: Limits) -> None:
        """Begins with no request."""
        self._limits = limits
        self._open: Counter[str] = Counter()
        self.held = 0

    @contextmanager
    def request(self, client: str) -> Iterator[Body]:
        """Counts a request while it is open, and forgets its body when it ends.

        Args:
            client: Its address.

        Raises:
            Refused: 429, where this client has as many open as one may have.
        """
        most = self._limits.per_client
        if most is not None and self._open[client] >= most:
            raise Refused(
                429, "too_many_requests", f"{client} has {most} requests open: wait until one of them is answered."
            )
        body = Body(self, self._limits)
        self._open[client] += 1
        try:
            yield body
        finally:
            self.held -= body.size
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]

    def hold(self, size: int) -> None:
        """Counts bytes of a body.

        Raises:
            Refused: 503, where all requests together would hold too many.
        """
        if self.held + size > self._limits.held_bytes:
            raise Refused(503, "busy", "Other requests fill the memory for photos: try again later.")
        self.held += size


class Body:
    """The body of one request.

    Attributes:
        size: Bytes that have been received.
    """

    def __init__(self, intake: Intake, limits: Limits) -> None:
        """Begins empty; `Intake.request` is the way here."""
        self._intake, self._limits = intake, limits
        self.size = 0

    async def read(self, announced: int, receive: Receive) -> bytes:
        """Returns the whole body.

        Args:
            announced: What its Content-Length says; 0 where it says nothing.
            receive: The application's.

        Raises:
            Refused: As `received` refuses, or 503 when the server holds too much already.
            ClientGoneError: The connection broke.
        """
        return await received(announced, receive, self._limits.body_bytes, self._limits.receive_seconds, self._hold)

    def _hold(self, size: int) -> None:
        self._intake.hold(size)
        self.size += size

"""Receives the bodies of requests, which may be too large, too slow, or never end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from dogbreeds.package.messages import Refused

if TYPE_CHECKING:
    from starlette.types import Receive


class ClientGoneError(Exception):
    """Nobody is there any more who could be answered."""


async def received(
    announced: int, receive: Receive, most_bytes: int, seconds: float, hold: Callable[[int], None] | None = None
) -> bytes:
    """Returns the whole body of a request.

    Args:
        announced: What its Content-Length says; 0 where it says nothing.
        receive: The ASGI application's.
        most_bytes: That it may have.
        seconds: In which it must come.
        hold: Told the size of each part that comes; what it raises ends the request.

    Raises:
        Refused: 413 when it is too large, even if only announced; 408 when it comes too slowly.
        ClientGoneError: The connection broke.
    """
    too_large = Refused(413, "too_large", f"The body has more than {most_bytes} bytes: send less.")
    if announced > most_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                part: bytes = message.get("body", b"")
                if len(body) + len(part) > most_bytes:
                    raise too_large
                if hold is not None:
                    hold(len(part))
                body += part
                more = message.get("more_body", False)
    except TimeoutError as error:
        raise Refused(
            408, "too_slow", f"{len(body)} bytes came in {seconds:g} seconds, and the body is not whole."
        ) from error
    return bytes(body)

"""Clients of a server, in a process of their own so that only the processor is shared with it.

`python -m benchmarks.asking <port> <clients> <requests> <folder>` sends the photos of a folder in turns, each client
as soon as it has its response, and prints one JSON line.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uvicorn.loops.auto import auto_loop_factory

_HEAD = b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


@dataclass(frozen=True)
class Asked:
    """Seconds from the first request to the last response, and of each request in the order of the responses."""

    seconds: float
    each: list[float]


async def ask(port: int, clients: int, requests: int, photos: Sequence[bytes]) -> Asked:
    """Sends requests to a server on this machine.

    Args:
        port: Where it listens.
        clients: Open connections, each with one request at a time.
        requests: Of all clients together.
        photos: JPEG files.

    Raises:
        ValueError: A request failed.
    """
    each: list[float] = []
    bodies = itertools.islice(itertools.cycle(photos), requests)
    began = time.perf_counter()
    await asyncio.gather(*(_client(port, bodies, each) for _ in range(clients)))
    return Asked(time.perf_counter() - began, each)


async def _client(port: int, bodies: Iterator[bytes], each: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for body in bodies:
        began = time.perf_counter()
        writer.write(_HEAD % len(body) + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(answer.split(b"content-length:")[1].split(b"\r\n")[0]))
        if not answer.startswith(b"http/1.1 200 "):
            raise ValueError(answer.decode())
        each.append(time.perf_counter() - began)
    writer.close()
    await writer.wait_closed()


def main() -> None:
    """Prints the times."""
    port, clients, requests = (int(argument) for argument in sys.argv[1:4])
    photos = [path.read_bytes() for path in sorted(Path(sys.argv[4]).rglob("*.jp*g"))]
    # Whatever the clients use, the server lacks.
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        print(json.dumps(vars(runner.run(ask(port, clients, requests, photos)))))


if __name__ == "__main__":
    main()

"""Many clients at once for a while, some of them hostile, and what must be true afterwards.

`python -m tests.serve.load <package> <photos> <seconds>` from the root of the repository runs it by hand.
"""

from __future__ import annotations

import json
import random
import select
import signal
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from dogbreeds.package.messages import as_json
from dogbreeds.package.predictor import Predictor
from tests.serve import hostile
from tests.serve.served import Reply, Served, invocation, read_reply, send, served

_HOSTILE_SHARE = 0.05
_SAMPLE_SECONDS = 1.0


@dataclass
class Load:
    """What was seen.

    Attributes:
        statuses: Of good requests.
        hostile: Statuses of the others; 0 where the server closed without an answer.
        wrong: Answers that are not the predictor's.
        unanswered: Good requests that got no answer.
        seconds: Of each good request.
        resident: MB of the server's memory, once a second.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    hostile: Counter[int] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)
    unanswered: int = 0
    seconds: list[float] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    exit_status: int | None = None


def load(
    server: Served,
    photos: dict[bytes, Any],
    bad: list[bytes],
    *,
    enough: Callable[[Load], bool],
    clients: int,
    tolerance: float,
) -> Load:
    """Lets clients ask until enough was seen, and ends the server while they still do.

    Args:
        server: Which is ended.
        photos: Good photos, and the answers that they must have.
        bad: Whole requests; each is sent on a connection of its own.
        enough: Says whether the server is to end, and is asked once a second.
        clients: At once.
        tolerance: By which probabilities may differ.
    """
    seen = Load()
    lock = threading.Lock()
    ending = threading.Event()

    def client(number: int) -> None:
        chance = random.Random(number)
        contents = list(photos)
        connection = server.connect()
        while True:
            if chance.random() < _HOSTILE_SHARE and not ending.is_set():
                try:
                    reply = server.send(chance.choice(bad))
                except ConnectionRefusedError:
                    continue
                with lock:
                    seen.hostile[reply.status] += 1
            if ending.is_set() and _is_closed(connection):
                # It was idle when the server ended.
                connection.close()
                return
            content = chance.choice(contents)
            began = time.perf_counter()
            send(connection, invocation(content, "image/jpeg"))
            reply = read_reply(connection)
            if not reply.status and ending.is_set():
                # The connection was idle when the server ended.
                connection.close()
                return
            with lock:
                seen.seconds.append(time.perf_counter() - began)
                _judge(seen, reply, photos[content], tolerance)
            if not reply.status or reply.headers.get("connection") == "close":
                connection.close()
                if ending.is_set():
                    return
                connection = server.connect()

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(client, number) for number in range(clients)]
        memory = psutil.Process(server.process.pid)
        # One that ends by now has failed.
        while not enough(seen) and not any(one.done() for one in running):
            seen.resident.append(memory.memory_info().rss / 1e6)
            time.sleep(_SAMPLE_SECONDS)
        ending.set()
        seen.exit_status = server.end(signal.SIGTERM)
        for one in running:
            one.result()
    return seen


def _is_closed(connection: socket.socket) -> bool:
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable)


def _judge(seen: Load, reply: Reply, wanted: Any, tolerance: float) -> None:
    if not reply.status:
        seen.unanswered += 1
        return
    seen.statuses[reply.status] += 1
    if reply.status != 200:
        return
    answer = reply.json
    found = {one["index"]: one["probability"] for one in answer["top"]}
    likely = [one for one in wanted["top"] if one["probability"] > tolerance]
    if any(abs(found.get(one["index"], 2.0) - one["probability"]) > tolerance for one in likely):
        seen.wrong.append(answer)


def hostile_requests() -> list[bytes]:
    """Returns those of `hostile` that are answered at once; slow ones would only wait."""
    bodies = [*hostile.damaged_photos(), *hostile.claims_and_bombs(), *hostile.no_photos()]
    return [
        *(invocation(body, "image/jpeg", "Connection: close") for body in bodies),
        *(invocation(body, "application/json", "Connection: close") for body in hostile.broken_json()),
        *(request for request in hostile.broken_requests() if request.startswith(b"POST /invocations")),
    ]


def main() -> None:
    """Prints what was seen."""
    package, folder, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    contents = [path.read_bytes() for path in sorted(folder.rglob("*.jp*g"))]
    predictor = Predictor.load(package)
    photos = {content: as_json(answer[0]) for content in contents for answer in [predictor.predict([content])]}
    with served(package, "limits.receive_seconds=5", *sys.argv[4:]) as server:
        end = time.monotonic() + seconds
        seen = load(
            server, photos, hostile_requests(), enough=lambda _: time.monotonic() > end, clients=32, tolerance=2e-3
        )
    slices = statistics.quantiles(seen.seconds, n=100)
    print(
        json.dumps(
            {
                "answers": seen.statuses,
                "hostile": seen.hostile,
                "wrong": len(seen.wrong),
                "unanswered": seen.unanswered,
                "exit_status": seen.exit_status,
                "per_second": round(sum(seen.statuses.values()) / seconds, 1),
                "p50_p99_ms": [round(1000 * slices[49], 1), round(1000 * slices[98], 1)],
                "resident_mb": {
                    "first_minute": round(statistics.mean(seen.resident[:60]), 1),
                    "last_minute": round(statistics.mean(seen.resident[-60:]), 1),
                    "every_30_seconds": [round(one) for one in seen.resident[::30]],
                },
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()

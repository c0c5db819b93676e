"""Limits on what comes before a request is complete, and what a client reads that exceeds them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from dogbreeds.serve import run
from dogbreeds.serve.app import Application
from tests.package.test_predictor import photo
from tests.serve.conftest import PATIENT_LIMITS
from tests.serve.served import Reply, Served, invocation, is_closed, limits, read_reply, send, served

pytestmark = pytest.mark.slow

GOOD = invocation(photo(4), "image/png")


@pytest.fixture(scope="module")
def crowded(tiny_package: Path) -> Iterator[Served]:
    """A server with room for few."""
    few = ("limits.connections=6", "limits.per_client=3", "limits.held_bytes=650_000", "limits.receive_seconds=90")
    with served(tiny_package, *PATIENT_LIMITS, *few) as running:
        yield running


def refused(server: Served, *parts: bytes) -> tuple[Reply, bool]:
    """Returns the reply to what is sent, and whether the connection is closed behind it."""
    with server.connect() as connection:
        for part in parts:
            send(connection, part)
        reply = read_reply(connection)
        return reply, is_closed(connection)


def test_headers_and_bodies_that_do_not_come(server: Served) -> None:
    headers = (b"", b"P", b"POST /invocations HTTP/1.1\r\nHost: he")
    bodies = (GOOD[:-1], GOOD.split(b"\r\n\r\n")[0] + b"\r\n\r\n")
    with ThreadPoolExecutor(len(headers) + len(bodies)) as pool:
        waited = list(pool.map(partial(refused, server), (*headers, *bodies)))
    assert [(reply.status, closed) for reply, closed in waited] == [(408, True)] * len(waited)
    assert {reply.code for reply, _ in waited[len(headers) :]} == {"too_slow"}


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /ping HTTP/1.1\r\n" + b"X-Much: abcdefgh\r\n" * 100_000,
        b"GET /ping HTTP/1.1\r\nX-Long: " + b"a" * 1_000_000,
        b"GET /" + b"a" * 1_000_000,
    ],
)
def test_headers_that_are_too_large(server: Served, sent: bytes) -> None:
    reply, closed = refused(server, sent)
    # The server closes while the client still sends, so that the refusal may be lost.
    assert (reply.status in (0, 400), closed) == (True, True)


def test_headers_that_come_at_once_have_the_same_limit(server: Served) -> None:
    sent = b"GET /ping HTTP/1.1\r\nHost: here\r\nX-Long: " + b"a" * 9_000 + b"\r\n\r\n"
    with server.connect() as connection:
        send(connection, sent)
        reply = read_reply(connection)
    assert reply.status in (400, 431)
    if reply.status == 431:
        assert reply.code == "headers_too_large"


def test_headers_below_the_limit(server: Served) -> None:
    sent = b"GET /ping HTTP/1.1\r\nHost: here\r\n" + b"X-Much: abcdefgh\r\n" * 300 + b"\r\n"
    with server.connect() as connection:
        for _ in range(4):
            # Each request has the whole limit, and so have requests that are sent at once.
            send(connection, sent)
            assert read_reply(connection).status == 200
        send(connection, sent * 4)
        assert [read_reply(connection).status for _ in range(4)] == [200] * 4


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Length: -1\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    ],
)
def test_what_is_not_http(server: Served, sent: bytes) -> None:
    reply, closed = refused(server, sent)
    assert (reply.status, closed) == (400, True)


@pytest.mark.parametrize("wanted", ["websocket", "h2c"])
def test_an_upgrade_is_not_made_and_the_request_answered(server: Served, wanted: str) -> None:
    headers = ("Connection: keep-alive, Upgrade", f"Upgrade: {wanted}", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    assert server.send(invocation(photo(4), "image/png", *headers)).status == 200


def test_a_body_that_is_too_large_is_refused_before_it_comes(server: Served) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Type: image/png\r\nContent-Length: 300001\r\n\r\n"
    with server.connect() as connection:
        send(connection, head)
        reply = read_reply(connection)
        assert (reply.status, reply.code) == (413, "too_large")
        # Who sends it all the same has read why.
        send(connection, b"a" * 300_001)
        assert is_closed(connection)


@pytest.mark.parametrize("path", ["/invocations", "/nothing", "/ping", "/"])
def test_large_bodies_leave_the_answer_readable(server: Served, path: str) -> None:
    """A connection that is closed while its client sends is reset, and the answer lost."""
    body = b"a" * 20_000_000
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: image/png\r\n"
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    for sent in (whole, chunked):
        reply, closed = refused(server, sent)
        assert closed
        assert reply.status in ((413,) if path in ("/", "/invocations") else (404, 405))
        assert reply.code in ("too_large", "not_found", "wrong_method")


def test_too_many_connections(crowded: Served) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(crowded.connect()) for _ in range(6)]
        for connection in connections:
            send(connection, b"GET /ping HTTP/1.1\r\nHost: here\r\n\r\n")
            assert read_reply(connection).status == 200
        reply = crowded.get("/ping")
        assert reply.status == 503
        connections[0].close()
        crowded.until_ready()


def test_too_many_requests_of_one_client(crowded: Served) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(crowded.connect()) for _ in range(3)]
        for connection in connections:
            send(connection, GOOD[:-1])
        crowded.until_held(3 * (len(photo(4)) - 1))
        reply = crowded.ask(photo(4), "image/png")
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (429, "too_many_requests", "1")
        for connection in connections:
            send(connection, GOOD[-1:])
            assert read_reply(connection).status == 200
    assert crowded.ask(photo(4), "image/png").status == 200


def test_memory_for_bodies_has_an_end(crowded: Served) -> None:
    with ExitStack() as stack:
        body = json.dumps({"image": "a" * 280_000}).encode()
        request = invocation(body, "application/json")
        connections = [stack.enter_context(crowded.connect()) for _ in range(2)]
        for connection in connections:
            send(connection, request[:-1])
        crowded.until_held(2 * (len(body) - 1))
        reply = crowded.ask(body, "application/json")
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "busy", "1")
        for connection in connections:
            send(connection, request[-1:])
            assert read_reply(connection).status == 422
        crowded.until_held(0)
        assert crowded.ask(body, "application/json").status == 422


class Transport(asyncio.Transport):
    """A connection that sends nothing."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", id(self))})
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.written += b"closed"


@dataclass
class Connection:
    transport: Transport = field(default_factory=Transport)

    __hash__ = object.__hash__


def test_connections_that_wait_for_headers_are_closed_late_if_they_have_had_a_request() -> None:
    request = asyncio.Event()

    async def application(*_: object) -> None:
        await request.wait()

    async def scenario() -> list[str]:
        server = run._Server(cast(Application, application), limits("receive_seconds=20"))
        new, used = Connection(), Connection()
        server.server_state.connections |= cast(Any, {new, used})
        scope = {"type": "http", "client": used.transport.get_extra_info("peername")}
        seen = []

        def look(*times: float) -> None:
            for now in times:
                server._close_slow_connections(now)
            seen.append("".join("c" if one.transport.written.endswith(b"closed") else "o" for one in (new, used)))

        look(0, 19)
        for begun in (10, 80, 150):
            answering = asyncio.ensure_future(server._serve_request(scope, cast(Any, None), cast(Any, None)))
            await asyncio.sleep(0)
            look(begun, begun + 60)
            request.set()
            await answering
            request.clear()
        look(211, 286)
        look(287)
        assert new.transport.written.startswith(b"HTTP/1.1 408 ")
        return seen

    assert asyncio.run(scenario()) == ["oo", "co", "co", "co", "co", "cc"]

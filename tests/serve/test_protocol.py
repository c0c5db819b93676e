"""Limits on what comes before a request is whole, and what a client reads that breaks them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.package.test_predictor import photo
from tests.serve.conftest import SMALL_LIMITS
from tests.serve.served import Reply, Served, invocation, is_closed, read_reply, send, served

pytestmark = pytest.mark.slow

GOOD = invocation(photo(4), "image/png")


@pytest.fixture(scope="module")
def crowded(tiny_package: Path) -> Iterator[Served]:
    """A server with room for few."""
    with served(tiny_package, *SMALL_LIMITS, "limits.connections=6", "limits.per_client=3") as running:
        yield running


def refused(server: Served, *parts: bytes) -> tuple[Reply, bool]:
    """Returns the reply to what is sent, and whether the connection is closed behind it."""
    with server.connect() as connection:
        for part in parts:
            send(connection, part)
        reply = read_reply(connection)
        return reply, is_closed(connection)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"P",
        b"POST /invocations HTTP/1.1\r\nHost: he",
        b"POST /invocations HTTP/1.1\r\nContent-Length: 5\r\n",
        b"\r\n\r\n\r\n",
    ],
)
def test_headers_that_do_not_come(server: Served, sent: bytes) -> None:
    reply, closed = refused(server, sent)
    assert (reply.status, reply.code, closed) == (408, "too_slow", True)
    assert "within 2.5 seconds" in reply.json["error"]["message"]


def test_headers_of_a_later_request_that_do_not_come(server: Served) -> None:
    with server.connect() as connection:
        send(connection, GOOD)
        assert read_reply(connection).status == 200
        send(connection, b"GET /ping HT")
        reply = read_reply(connection)
        assert (reply.status, reply.code) == (408, "too_slow")
        assert is_closed(connection)


@pytest.mark.parametrize("sent", [GOOD[:-1], GOOD.split(b"\r\n\r\n")[0] + b"\r\n\r\n"])
def test_a_body_that_does_not_come(server: Served, sent: bytes) -> None:
    reply, closed = refused(server, sent)
    assert (reply.status, reply.code, closed) == (408, "too_slow", True)


@pytest.mark.parametrize(
    "sent",
    [
        # In one piece, as one header, without an end, and as a path.
        b"GET /ping HTTP/1.1\r\n" + b"X-Much: abcdefgh\r\n" * 1000 + b"\r\n",
        b"GET /ping HTTP/1.1\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nX-Long: " + b"a" * 1_000_000,
        b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 1_000_000,
    ],
)
def test_headers_that_are_too_large(server: Served, sent: bytes) -> None:
    half = len(sent) // 2
    for parts in ((sent,), (sent[:half], sent[half:])):
        reply, closed = refused(server, *parts)
        assert (reply.status, reply.code, closed) == (431, "headers_too_large", True)


def test_headers_below_the_limit(server: Served) -> None:
    sent = b"GET /ping HTTP/1.1\r\n" + b"X-Much: abcdefgh\r\n" * 300 + b"\r\n"
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
        b"GET /p\xffng HTTP/1.1\r\n\r\n",
        b"GET /ping HTTP/9.9\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /invocations HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloo\r\n",
        b"CONNECT here:443 HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http(server: Served, sent: bytes) -> None:
    reply, closed = refused(server, sent)
    assert (reply.status, reply.code, closed) == (400, "broken_request", True)


def test_garbage_behind_a_request_does_not_take_its_answer(server: Served) -> None:
    for requests in (1, 3):
        with server.connect() as connection:
            send(connection, GOOD * requests + b"\x00garbage\r\n\r\n")
            for _ in range(requests):
                assert read_reply(connection).status == 200
            assert is_closed(connection)


@pytest.mark.parametrize("wanted", ["websocket", "h2c"])
def test_an_upgrade_is_not_made_and_the_request_answered(server: Served, wanted: str) -> None:
    headers = ("Connection: keep-alive, Upgrade", f"Upgrade: {wanted}", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    request = invocation(photo(4), "image/png", *headers)
    for place in (len(request), len(request) - len(photo(4)), len(request) - 5, 10):
        with server.connect() as connection:
            send(connection, request[:place])
            time.sleep(0.02)
            send(connection, request[place:])
            assert read_reply(connection).status == 200
            assert is_closed(connection)


def test_a_body_that_is_too_large_is_refused_before_it_comes(server: Served) -> None:
    head = b"POST /invocations HTTP/1.1\r\nContent-Type: image/png\r\nContent-Length: 300001\r\n\r\n"
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
        assert reply.status in ((413,) if path == "/invocations" else (404, 405))
        assert reply.code in ("too_large", "not_found", "wrong_method")


def test_too_many_connections(crowded: Served) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(crowded.connect()) for _ in range(6)]
        for connection in connections:
            send(connection, b"GET /ping HTTP/1.1\r\n\r\n")
            assert read_reply(connection).status == 200
        reply = crowded.get("/ping")
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "busy", "1")
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


def test_memory_for_bodies_has_an_end(tiny_package: Path) -> None:
    with served(tiny_package, *SMALL_LIMITS, "limits.held_bytes=650_000") as server, ExitStack() as stack:
        body = json.dumps({"image": "a" * 280_000}).encode()
        request = invocation(body, "application/json")
        connections = [stack.enter_context(server.connect()) for _ in range(2)]
        for connection in connections:
            send(connection, request[:-1])
        server.until_held(2 * (len(body) - 1))
        reply = server.ask(body, "application/json")
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "busy", "1")
        for connection in connections:
            send(connection, request[-1:])
            assert read_reply(connection).status == 422
        server.until_held(0)
        assert server.ask(body, "application/json").status == 422

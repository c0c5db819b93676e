"""Hundreds of requests that nobody should send: each is refused in JSON, or answered, and the server goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from dogbreeds.data.images import UnreadableImageError
from dogbreeds.package.messages import as_json
from dogbreeds.package.predictor import Predictor
from tests.package.test_predictor import photo
from tests.serve import hostile
from tests.serve.served import Reply, Served
from tests.serve.test_server import same

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning:PIL")]

GOOD = photo(4)
_AT_ONCE = 24


def replies(server: Served, predictor: Predictor, requests: Iterable[Callable[[], Reply]]) -> list[Reply]:
    """Sends requests from many threads, and behind each one a good request, which must be answered rightly."""
    wanted = as_json(predictor.predict([GOOD])[0])

    def both(request: Callable[[], Reply]) -> Reply:
        reply = request()
        assert same(server.ask(GOOD, "image/png").json, wanted)
        return reply

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(both, requests))


def test_photos_that_are_damaged_lie_or_are_none(
    server: Served, tiny_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [*hostile.damaged_photos(), *hostile.claims_and_bombs(), *hostile.no_photos()]
    assert len(contents) > 450
    received = replies(server, tiny_predictor, [lambda content=content: server.ask(content) for content in contents])
    # As the server reads them.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    for content, reply, answer in zip(contents, received, tiny_predictor.predict_each(contents), strict=True):
        if isinstance(answer, UnreadableImageError):
            assert (reply.status, reply.code) == (422, "unreadable_image"), content[:50]
        else:
            assert reply.status == 200, (reply, content[:50])
            assert same(reply.json, as_json(answer))
    assert all(count > 50 for count in Counter(reply.status for reply in received).values())


def test_claims_and_bombs_are_not_unpacked(server: Served, tiny_predictor: Predictor) -> None:
    received = [server.ask(content) for content in hostile.claims_and_bombs()]
    reasons = Counter(reply.json["error"]["message"] for reply in received if reply.status != 200)
    assert sum(count for reason, count in reasons.items() if "too many pixels" in reason) >= 7, reasons


def test_json_that_is_broken(server: Served, tiny_predictor: Predictor) -> None:
    bodies = list(hostile.broken_json())
    assert len(bodies) > 90
    received = replies(
        server, tiny_predictor, [lambda body=body: server.ask(body, "application/json") for body in bodies]
    )
    for body, reply in zip(bodies, received, strict=True):
        if reply.status != 200:
            assert (reply.status, reply.code) in {
                (400, "broken_json"),
                (400, "no_photo"),
                (400, "broken_base64"),
                (413, "too_many_photos"),
                (422, "unreadable_image"),
            }, (body[:50], reply)
    assert {reply.status for reply in received} >= {400, 413, 422}


def test_kinds_that_are_not_taken(server: Served, tiny_predictor: Predictor) -> None:
    asked = [lambda kind=kind: server.ask(GOOD, kind.encode().decode("latin-1")) for kind in hostile.kinds()]
    for reply in replies(server, tiny_predictor, asked):
        assert (reply.status, reply.code) == (415, "unsupported_content_type")
    for reply in replies(server, tiny_predictor, [lambda: server.ask(GOOD, "image/png", "Accept: image/png")]):
        assert (reply.status, reply.code) == (406, "unacceptable")


def test_requests_that_are_broken(server: Served, tiny_predictor: Predictor) -> None:
    requests = list(hostile.broken_requests())
    assert len(requests) > 140
    received = replies(server, tiny_predictor, [lambda request=request: server.send(request) for request in requests])
    codes: Counter[str] = Counter()
    for request, reply in zip(requests, received, strict=True):
        if reply.status != 200:
            assert 400 <= reply.status < 500, (request[:200], reply)
            # What is not HTTP is refused by the server, in plain text or without any.
            codes[reply.code if reply.headers.get("content-type") == "application/json" else str(reply.status)] += 1
    assert codes.keys() >= {"400", "not_found", "wrong_method", "too_slow", "too_large"}
    assert not [name for name in server.metrics() if 'status="5' in name and 'status="503"' not in name]

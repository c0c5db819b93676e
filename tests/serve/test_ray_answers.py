from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dogbreeds.package.messages import as_json
from dogbreeds.package.package import save_package
from dogbreeds.package.predictor import Handler
from tests.package.test_predictor import FOUR, described, network, photo

starlette = pytest.importorskip("starlette.requests")
ray_answers = pytest.importorskip("dogbreeds.serve.ray_answers", reason="Ray Serve is not installed")
Answers = ray_answers.Answers
LIMITS = ray_answers.ReplicaLimits(
    body_bytes=1_000_000,
    photos=4,
    pixels=1_000_000,
    open_photos=8,
    receive_seconds=20.0,
    answer_seconds=50.0,
    batch_wait_seconds=0.01,
)
Asked = tuple[Any, AsyncIterator[dict[str, Any]]]


class Alone:
    """Batches of one, since Ray's need a replica around them."""

    def __init__(self, compute: Callable[[list[bytes]], Awaitable[list[Any]]]) -> None:
        self._compute = compute
        self.wait = -1.0

    async def __call__(self, photo: bytes) -> Any:
        return (await self._compute([photo]))[0]

    def set_batch_wait_timeout_s(self, seconds: float) -> None:
        self.wait = seconds


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "model"
    save_package(directory, described(FOUR), network(described(FOUR)))
    return directory


@pytest.fixture
def answers(package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(ray_answers.serve, "batch", lambda **_: Alone)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    threads = torch.get_num_threads()
    answering = Answers(package)
    answering.limit(LIMITS)
    yield answering
    torch.set_num_threads(threads)


async def stream(chunks: Sequence[bytes], then: float = 0.0) -> AsyncIterator[dict[str, Any]]:
    """The messages of a request's body; its end comes after some seconds."""
    for chunk in chunks:
        yield {"type": "http.request", "body": chunk, "more_body": True}
    await asyncio.sleep(then)
    yield {"type": "http.request", "body": b"", "more_body": False}


def request(*chunks: bytes, method: str = "POST", path: str = "/", then: float = 0.0, **headers: str) -> Asked:
    messages = stream(chunks, then)
    names = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": names}
    return starlette.Request(scope, messages.__anext__), messages


def ask(answers: Any, *chunks: bytes, **how: Any) -> Any:
    return asyncio.run(answers(request(*chunks, **how)[0]))


def refusal(response: Any) -> tuple[int, str, str]:
    assert response.headers["content-type"] == "application/json"
    error = json.loads(bytes(response.body))["error"]
    assert set(error) == {"code", "message"}
    return response.status_code, error["code"], error["message"]


def instances(*photos: bytes) -> bytes:
    return json.dumps({"instances": [{"image": base64.b64encode(one).decode()} for one in photos]}).encode()


def test_answers_are_those_of_the_package(answers: Any, package: Path) -> None:
    handler = Handler.load(package)
    # Each by itself, as plain torch computes a batch of two a little differently.
    expected = [as_json(handler.predict([one])[0]) for one in (photo(1), photo(2))]
    one = ask(answers, photo(1)[:50], photo(1)[50:], content_type="image/png")
    several = ask(answers, instances(photo(1), photo(2)), path="/invocations", content_type="application/json")
    lines = ask(answers, photo(2), content_type="application/octet-stream", accept="text/csv")
    assert (one.status_code, one.headers["content-type"]) == (200, "application/json")
    assert json.loads(bytes(one.body)) == expected[0]
    assert json.loads(bytes(several.body)) == {"predictions": expected}
    assert bytes(lines.body).decode().split(",")[:2] == [str(expected[1]["prediction"]), expected[1]["breed"]]


@pytest.mark.parametrize("path", ["/", "/ping"])
def test_it_says_that_it_is_ready(path: str, answers: Any) -> None:
    assert ask(answers, method="GET", path=path).status_code == 200


@pytest.mark.parametrize(
    ("body", "how", "status", "code"),
    [
        (b"", {"path": "/photos"}, 404, "not_found"),
        (b"", {"method": "DELETE"}, 405, "wrong_method"),
        (b"", {"method": "GET", "path": "/invocations"}, 405, "wrong_method"),
        (b"{", {"content_type": "application/json"}, 400, "broken_json"),
        (b"{}", {"content_type": "application/json"}, 400, "no_photo"),
        (b'{"image": "%"}', {"content_type": "application/json"}, 400, "broken_base64"),
        (b"x", {"content_type": "text/plain"}, 415, "unsupported_content_type"),
        (b"x", {}, 415, "unsupported_content_type"),
        (b"x", {"content_type": "image/png", "accept": "image/png"}, 406, "unacceptable"),
        (b"x", {"content_type": "image/png"}, 422, "unreadable_image"),
        (instances(*[b"x"] * 65), {"content_type": "application/json"}, 413, "too_many_photos"),
    ],
)
def test_refusals(body: bytes, how: dict[str, str], status: int, code: str, answers: Any) -> None:
    response = ask(answers, body, **how)
    assert refusal(response)[:2] == (status, code)
    assert "retry-after" not in response.headers


def test_a_refusal_names_the_photo(answers: Any) -> None:
    response = ask(answers, instances(photo(1), b"x"), content_type="application/json")
    assert "instances[1]" in refusal(response)[2]


def test_a_large_request_is_refused_before_it_is_read(answers: Any) -> None:
    answers.limit(replace(LIMITS, body_bytes=100))
    asked, messages = request(b"x" * 60, content_type="image/png", content_length="101")
    assert refusal(asyncio.run(answers(asked)))[:2] == (413, "too_large")
    # Nobody has asked for the first piece.
    assert asyncio.run(messages.__anext__())["body"] == b"x" * 60


def test_a_large_request_that_does_not_say_so_is_cut_off(answers: Any) -> None:
    answers.limit(replace(LIMITS, body_bytes=100))
    assert refusal(ask(answers, b"x" * 60, b"x" * 60, content_type="image/png"))[:2] == (413, "too_large")


def test_a_slow_request_is_given_up(answers: Any) -> None:
    answers.limit(replace(LIMITS, receive_seconds=0.05))
    assert refusal(ask(answers, b"x", then=60, content_type="image/png"))[:2] == (408, "too_slow")


def test_the_limit_of_pixels_holds(answers: Any) -> None:
    answers.limit(replace(LIMITS, pixels=50))
    assert "too many pixels" in refusal(ask(answers, photo(1), content_type="image/png"))[2]


def test_more_photos_than_may_be_open_are_refused_as_a_whole(answers: Any) -> None:
    answers.limit(replace(LIMITS, open_photos=1))
    response = ask(answers, instances(photo(1), photo(2)), content_type="application/json")
    assert refusal(response)[:2] == (503, "busy")
    assert int(response.headers["retry-after"]) > 0
    # What was refused and what was answered are not open any more.
    for _ in range(2):
        assert ask(answers, photo(1), content_type="image/png").status_code == 200


def test_a_stuck_batch_is_seen(answers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    leave = threading.Event()

    def stuck(contents: Sequence[bytes]) -> list[Any]:
        leave.wait(60)
        return []

    answers.check_health()
    answers.limit(replace(LIMITS, answer_seconds=0.05))
    with monkeypatch.context() as patched:
        patched.setattr(Handler, "answers", lambda _, contents: stuck(contents))
        response = ask(answers, photo(1), content_type="image/png")
        assert refusal(response)[:2] == (503, "busy")
        assert "retry-after" in response.headers
        time.sleep(0.05)
        with pytest.raises(RuntimeError, match="more than"):
            answers.check_health()
        leave.set()


def test_what_nobody_expects_is_logged_and_answered(
    answers: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of the engine")

    with monkeypatch.context() as patched:
        patched.setattr(Handler, "answers", broken)
        status, code, message = refusal(ask(answers, photo(1), content_type="image/png"))
    assert (status, code) == (500, "failed")
    assert "of the engine" not in message
    assert "of the engine" in caplog.text
    assert ask(answers, photo(1), content_type="image/png").status_code == 200
    answers.check_health()

"""What the application does where no connection can show it: failures, patience that ends, clients that go."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from dogbreeds.package.messages import HttpError
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve import app as app_module
from dogbreeds.serve.app import Application
from dogbreeds.serve.site import application as site
from tests.package.test_predictor import FOUR, described
from tests.serve.served import limits
from tests.serve.test_batching import Gated, taken, until

SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "POST",
    "path": "/invocations",
    "raw_path": b"/invocations",
    "root_path": "",
    "query_string": b"",
    "scheme": "http",
    "http_version": "1.1",
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 2),
    "headers": [(b"content-type", b"image/jpeg"), (b"content-length", b"5")],
}


class Described(Gated):
    description = described(FOUR)


class Client:
    """Sends one photo, and goes when it is told to."""

    def __init__(self, photo: bytes) -> None:
        self.gone = asyncio.Event()
        self.sent: list[Message] = []
        self._messages: list[Message] = [{"type": "http.request", "body": photo, "more_body": False}]

    async def receive(self) -> Message:
        if self._messages:
            return self._messages.pop()
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def error(self) -> tuple[int, str]:
        start, body = self.sent
        return start["status"], json.loads(body["body"])["error"]["code"]


async def started(predictor: Any, *settings: str) -> Application:
    application = Application(predictor, limits(*settings))
    application.batcher.start()
    await until(lambda: application.batcher.unavailable is None)
    return application


async def ended(application: Application, predictor: Gated) -> None:
    predictor.gate.set()
    await asyncio.to_thread(application.batcher.close)


def test_patience_ends_and_the_photo_is_not_computed() -> None:
    predictor = Described()

    async def scenario() -> None:
        application = await started(predictor, "answer_seconds=0.2")
        first, second = Client(b"first"), Client(b"second")
        asked = [asyncio.ensure_future(application(SCOPE, first.receive, first.send))]
        await taken(predictor)
        asked.append(asyncio.ensure_future(application(SCOPE, second.receive, second.send)))
        await asyncio.gather(*asked)
        assert first.error == second.error == (503, "busy")
        assert dict(first.sent[0]["headers"])[b"retry-after"] == b"1"
        assert application.batcher.waiting == 0
        await ended(application, predictor)

    asyncio.run(scenario())
    assert predictor.batches == [[b"first"]]


def test_who_has_gone_is_not_answered() -> None:
    predictor = Described()

    async def scenario() -> None:
        application = await started(predictor)
        first, second, third = Client(b"first"), Client(b"second"), Client(b"third")
        asked = [asyncio.ensure_future(application(SCOPE, first.receive, first.send))]
        await taken(predictor)
        asked += [asyncio.ensure_future(application(SCOPE, one.receive, one.send)) for one in (second, third)]
        await until(lambda: application.batcher.waiting == 2)
        second.gone.set()
        await until(lambda: application.batcher.waiting == 1)
        predictor.gate.set()
        await asyncio.gather(*asked)
        assert second.sent == []
        assert first.sent[0]["status"] == third.sent[0]["status"] == 200
        await ended(application, predictor)

    asyncio.run(scenario())
    assert predictor.batches == [[b"first"], [b"third"]]


def test_an_unexpected_error_is_logged_and_answered_in_json(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = Described()

    def fails(*_: object) -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(app_module, "parse_request", fails)

    async def scenario() -> None:
        application = await started(predictor)
        client = Client(b"photo")
        await application(SCOPE, client.receive, client.send)
        assert client.error == (500, "failed")
        assert b"nobody" not in client.sent[1]["body"]
        await ended(application, predictor)

    asyncio.run(scenario())
    assert "nobody thought of this" in caplog.text


@pytest.mark.parametrize("path", ["/", "/invocations"])
def test_photos_are_taken_at_the_root_too(path: str) -> None:
    """The containers of SageMaker post there."""
    predictor = Described()
    predictor.gate.set()

    async def scenario() -> None:
        application = await started(predictor)
        client = Client(b"photo")
        await application(SCOPE | {"path": path}, client.receive, client.send)
        assert client.sent[0]["status"] == 200
        assert json.loads(client.sent[1]["body"])["breed"] == "photo"
        await ended(application, predictor)

    asyncio.run(scenario())


def test_a_server_that_stops_says_so_and_closes_connections() -> None:
    predictor = Described()
    predictor.gate.set()

    async def scenario() -> None:
        application = await started(predictor)
        application.stop()
        photo, ping = Client(b"photo"), Client(b"")
        await application(SCOPE, photo.receive, photo.send)
        assert photo.sent[0]["status"] == 200
        await application(SCOPE | {"method": "GET", "path": "/ping", "headers": []}, ping.receive, ping.send)
        assert ping.error == (503, "draining")
        assert all((b"connection", b"close") in client.sent[0]["headers"] for client in (photo, ping))
        await ended(application, predictor)

    asyncio.run(scenario())


def test_start_up_can_wait_for_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Described):
        def warm_up(self) -> None:
            raise RuntimeError("no memory on the device")

    async def scenario(predictor: Any) -> list[str]:
        application = Application(predictor, limits(), wait_for_engine=True)
        messages = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]
        sent = []

        async def receive() -> Message:
            sent.append("" if application.batcher.unavailable is None else application.batcher.unavailable.code)
            return messages.pop()

        async def send(message: Message) -> None:
            sent.append(message["type"])

        with contextlib.suppress(HttpError):
            await application({"type": "lifespan"}, receive, send)
        return sent

    ready = ["loading", "lifespan.startup.complete", "", "lifespan.shutdown.complete"]
    assert asyncio.run(scenario(Described())) == ready
    assert asyncio.run(scenario(Broken())) == ["loading", "lifespan.startup.failed"]
    assert "no memory on the device" in caplog.text


def test_the_model_card_is_shown_without_front_matter_and_without_html(
    tiny_predictor: Predictor, tiny_package: Path, tmp_path: Path
) -> None:
    package = Path(shutil.copytree(tiny_package, tmp_path / "model"))
    # Some editors put a byte order mark in front.
    written = "\ufeff---\nlicense: mit\n---\n# Dogs\n\n| <b>Pug</b> | $x |\n| --- | --- |\n| [a](javascript:b) | 1 |\n"
    (package / "README.md").write_text(written + "\n---\n\n<script>alert(1)</script>\n", encoding="utf-8")
    served, asked = site(tiny_predictor, package, limits()), {**SCOPE, "method": "GET", "headers": []}
    page, card = Client(b""), Client(b"")
    asyncio.run(served({**asked, "path": "/model-card"}, page.receive, page.send))
    asyncio.run(served({**asked, "path": "/card"}, card.receive, card.send))
    headers, shown = dict(page.sent[0]["headers"]), page.sent[1]["body"].decode()
    assert (page.sent[0]["status"], headers[b"content-type"]) == (200, b"text/html; charset=utf-8")
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert "<h1>Dogs</h1>" in shown and "<th>&lt;b&gt;Pug&lt;/b&gt;</th>\n<th>$x</th>" in shown
    assert "license: mit" not in shown and "<script" not in shown and 'href="javascript' not in shown
    assert json.loads(card.sent[1]["body"])["readme"] is True

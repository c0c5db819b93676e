"""What the application does where no connection can show it: failures, patience that ends, clients that go."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from starlette.types import Message

from dogbreeds.schema import Limits
from dogbreeds.serve import app as app_module
from dogbreeds.serve.app import Application
from tests.conftest import ROOT
from tests.package.test_predictor import FOUR, described
from tests.serve.served import limits_of
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


def limits(*settings: str) -> Limits:
    section = OmegaConf.load(ROOT / "conf/serve.yaml").limits
    return limits_of(OmegaConf.merge(section, OmegaConf.from_dotlist(list(settings))))


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


async def started(handler: Any, package: Path, *settings: str) -> Application:
    application = Application(handler, package, limits(*settings))
    application.batcher.start()
    await until(lambda: application.batcher.condition is None)
    return application


async def ended(application: Application, handler: Gated) -> None:
    handler.gate.set()
    await asyncio.to_thread(application.batcher.close)


def test_patience_ends_and_the_photo_is_not_computed(tmp_path: Path) -> None:
    handler = Described()

    async def scenario() -> None:
        application = await started(handler, tmp_path, "answer_seconds=0.2")
        first, second = Client(b"first"), Client(b"second")
        asked = [asyncio.ensure_future(application(SCOPE, first.receive, first.send))]
        await taken(handler)
        asked.append(asyncio.ensure_future(application(SCOPE, second.receive, second.send)))
        await asyncio.gather(*asked)
        assert first.error == second.error == (503, "busy")
        assert dict(first.sent[0]["headers"])[b"retry-after"] == b"1"
        assert application.batcher.waiting == 0
        await ended(application, handler)

    asyncio.run(scenario())
    assert handler.batches == [[b"first"]]


def test_who_has_gone_is_not_answered(tmp_path: Path) -> None:
    handler = Described()

    async def scenario() -> None:
        application = await started(handler, tmp_path)
        first, second, third = Client(b"first"), Client(b"second"), Client(b"third")
        asked = [asyncio.ensure_future(application(SCOPE, first.receive, first.send))]
        await taken(handler)
        asked += [asyncio.ensure_future(application(SCOPE, one.receive, one.send)) for one in (second, third)]
        await until(lambda: application.batcher.waiting == 2)
        second.gone.set()
        await until(lambda: application.batcher.waiting == 1)
        handler.gate.set()
        await asyncio.gather(*asked)
        assert second.sent == []
        assert first.sent[0]["status"] == third.sent[0]["status"] == 200
        await ended(application, handler)

    asyncio.run(scenario())
    assert handler.batches == [[b"first"], [b"third"]]


def test_what_nobody_thought_of_is_an_error_in_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = Described()

    def fails(*_: object) -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(app_module, "question_of", fails)

    async def scenario() -> None:
        application = await started(handler, tmp_path)
        client = Client(b"photo")
        with pytest.raises(RuntimeError, match="nobody thought of this"):
            # uvicorn logs it.
            await application(SCOPE, client.receive, client.send)
        assert client.error == (500, "failed")
        assert b"nobody" not in client.sent[1]["body"]
        await ended(application, handler)

    asyncio.run(scenario())

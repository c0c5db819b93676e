"""What the server answers, over a real connection, and how it starts and ends."""

from __future__ import annotations

import base64
import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.package.messages import as_json
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve.run import serve
from tests.conftest import ROOT
from tests.package.test_predictor import FOUR, photo
from tests.serve.served import PATIENCE, Served, invocation, is_closed, limits_of, read_reply, send, served

pytestmark = pytest.mark.slow


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def expected(predictor: Predictor, content: bytes) -> Any:
    return as_json(predictor.predict([content])[0])


def same(answer: Any, wanted: Any) -> bool:
    """Whether two answers are the same but for the last digits, which a batch may change."""
    equal = [(one["known"], [best["index"] for best in one["top"]]) for one in (answer, wanted)]
    return equal[0] == equal[1] and answer["probability"] == pytest.approx(wanted["probability"], abs=2e-3)


# Answers


@pytest.mark.parametrize(("form", "kind"), [("JPEG", "image/jpeg"), ("PNG", "application/octet-stream; a=b")])
def test_the_bytes_of_a_photo(server: Served, tiny_predictor: Predictor, form: str, kind: str) -> None:
    content = photo(4, form=form)
    reply = server.ask(content, kind)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert same(reply.json, expected(tiny_predictor, content))
    assert 0 < float(reply.headers["server-timing"].removeprefix("total;dur=")) < 1000 * PATIENCE
    assert reply.json["breed"] == reply.json["top"][0]["breed"]


def test_photos_in_json(server: Served, tiny_predictor: Predictor) -> None:
    contents = [photo(seed) for seed in range(5)]
    one = server.ask(json.dumps({"image": in_base64(contents[0])}).encode(), "application/json")
    assert same(one.json, expected(tiny_predictor, contents[0]))
    instances = [{"image": in_base64(content)} for content in contents]
    many = server.ask(json.dumps({"instances": instances}).encode(), "application/json; charset=utf-8")
    answers = many.json["predictions"]
    assert len(answers) == 5
    for answer, content in zip(answers, contents, strict=True):
        assert same(answer, expected(tiny_predictor, content))
    (alone,) = server.ask(json.dumps({"instances": instances[:1]}).encode(), "application/json").json["predictions"]
    assert same(alone, expected(tiny_predictor, contents[0]))


def test_an_answer_as_a_table(server: Served) -> None:
    reply = server.ask(photo(4), "image/png", "Accept: text/csv")
    index, breed, probability, known, score = reply.body.decode().strip().split(",")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert FOUR[int(index)].endswith(breed.replace(" ", "_"))
    assert 0 < float(probability) <= 1
    assert (known, float(score) >= 4.9) == ("true", True)


def test_a_connection_is_kept_for_many_requests(server: Served, tiny_predictor: Predictor) -> None:
    with server.connect() as connection:
        for seed in range(6):
            send(connection, invocation(photo(seed), "image/png"))
            assert same(read_reply(connection).json, expected(tiny_predictor, photo(seed)))
        # All at once: they are answered in order.
        send(connection, b"".join(invocation(photo(seed), "image/png") for seed in range(6)))
        for seed in range(6):
            assert same(read_reply(connection).json, expected(tiny_predictor, photo(seed)))


def test_bodies_in_chunks_and_with_permission(server: Served, tiny_predictor: Predictor) -> None:
    content = photo(4)
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(content[start : start + 700]), content[start : start + 700])
        for start in range(0, len(content), 700)
    )
    head = b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Type: image/png\r\n"
    reply = server.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert same(reply.json, expected(tiny_predictor, content))
    with server.connect() as connection:
        send(connection, invocation(content, "image/png", "Expect: 100-continue")[: -len(content)])
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        send(connection, content)
        assert same(read_reply(connection).json, expected(tiny_predictor, content))


def test_what_surrounds_the_answers(server: Served) -> None:
    assert server.get("/ping").json == {"status": "ready"}
    assert server.get("/card").json["backbone"] == "squeezenet1_1"
    # Packages of older versions have no model card.
    assert server.get("/card").json["readme"] is False
    assert server.get("/model-card").status == 404
    assert server.get("/examples").json == [{"name": "pug.png", "breed": "Pug"}]
    example = server.get("/examples/pug.png")
    assert (example.headers["content-type"], example.body) == ("image/png", photo(3))
    for path in ("/examples/examples.json", "/examples/../model.json", "/examples/%2e%2e/model.json", "/model.json"):
        assert (server.get(path).status, server.get(path).code) == (404, "not_found")
    page = server.get("/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.body == server.get("/index.html").body
    assert server.get("/style.css").headers["content-type"] == "text/css; charset=utf-8"
    policy = server.get("/ping").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert server.get("/nothing").headers["x-content-type-options"] == "nosniff"


def test_metrics_count(server: Served) -> None:
    before = server.metrics()
    server.ask(photo(1), "image/png")
    server.ask(b"no photo")
    server.get("/nothing/at/all")
    after = server.metrics()

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown('dogbreeds_requests_total{route="/invocations",status="200"}') == 1
    assert grown('dogbreeds_requests_total{route="/invocations",status="422"}') == 1
    assert grown('dogbreeds_requests_total{route="other",status="404"}') == 1
    assert grown("dogbreeds_photos_total") == grown("dogbreeds_unknown_photos_total") == 1
    assert grown("dogbreeds_batch_photos_count") == 2
    assert grown("dogbreeds_request_seconds_count") == 2
    assert after["dogbreeds_waiting_photos"] == after["dogbreeds_busy_lanes"] == 0
    (model,) = [name for name in after if name.startswith("dogbreeds_model{")]
    assert 'backbone="squeezenet1_1"' in model
    assert 'classes="4"' in model


# Start


def test_limits_that_contradict_each_other() -> None:
    section = OmegaConf.load(ROOT / "conf/serve.yaml").limits
    assert limits_of(section).body_bytes == 6 * 2**20
    for setting, message in (
        ("waiting=10", "limits.waiting=10: must be at least limits.photos=64"),
        ("held_bytes=10", "limits.held_bytes=10: must be at least limits.body_bytes=6291456"),
    ):
        with pytest.raises(ConfigError, match=message):
            limits_of(OmegaConf.merge(section, OmegaConf.from_dotlist([setting])))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"package": Path("nowhere")}, "package=nowhere is not a model package"),
        ({"host": "192.0.2.1"}, "Cannot listen on host=192.0.2.1 port=0: "),
        ({"host": 70 * "a"}, "host=a+ is not a valid host name"),
        ({"host": "no such host"}, "Cannot listen on host=no such host port=0: "),
    ],
)
def test_what_cannot_be_served(
    settings: dict[str, Any], message: str, tiny_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    limits = limits_of(OmegaConf.load(ROOT / "conf/serve.yaml").limits)
    usual = {"package": tiny_package, "host": "127.0.0.1", "port": 0}
    with pytest.raises(UserError, match=message):
        serve(**{**usual, **settings}, limits=limits, cache=tmp_path)


def test_a_port_that_is_taken(
    server: Served, tiny_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    limits = limits_of(OmegaConf.load(ROOT / "conf/serve.yaml").limits)
    with pytest.raises(UserError, match=f"port={server.port} is in use: choose another one"):
        serve(tiny_package, limits, host="127.0.0.1", port=server.port, cache=tmp_path)


@pytest.mark.slow
def test_a_signal_ends_it_when_all_is_answered(tiny_package: Path, tiny_predictor: Predictor) -> None:
    """SIGTERM is sent to the server of test_load."""
    # A run directory will do.
    with served(tiny_package.parent) as server:
        request = invocation(photo(4), "image/png")
        begun, whole, idle = ([server.connect() for _ in range(count)] for count in (3, 12, 3))
        for connection in idle:
            send(connection, request)
            assert read_reply(connection).status == 200
        for connection in begun:
            send(connection, request[:-10])
        # The beginnings are there before the signal is.
        server.until_held(3 * (len(photo(4)) - 10))
        for connection in whole:
            send(connection, request)
        ended: list[int] = []
        ending = threading.Thread(target=lambda: ended.append(server.end(signal.SIGINT)))
        ending.start()
        for connection in idle:
            assert is_closed(connection)
        for connection in begun:
            send(connection, request[-10:])
        for connection in (*whole, *begun):
            assert same(read_reply(connection).json, expected(tiny_predictor, photo(4)))
            assert is_closed(connection)
        ending.join(PATIENCE)
        assert ended == [0]
        for connection in (*whole, *begun, *idle):
            connection.close()

"""Asking servers and endpoints about many photos: in order, again where they have no time, and not for ever."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    InvalidRegionError,
    NoCredentialsError,
)

from dogbreeds.asking import asked
from dogbreeds.command_schemas import PredictCommandConfig
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.sagemaker.endpoints.client import Endpoint, asker
from dogbreeds.serve.client import Busy, PredictionFailed, Server, retry, rows

Respond = Callable[[bytes, int], tuple[int, dict[str, str], bytes] | None]


def answer(name: str) -> bytes:
    top = [{"breed": name, "index": 3, "probability": 0.75}]
    return json.dumps({"prediction": 3, "breed": name, "probability": 0.75, "top": top}).encode()


def refusal(message: str) -> bytes:
    return json.dumps({"error": {"code": "word", "message": message}}).encode()


@contextmanager
def serving(respond: Respond) -> Iterator[str]:
    """A server; `respond` is given a photo and how often it was asked about, and None hangs up."""
    times: dict[bytes, int] = {}
    lock = threading.Lock()

    class Predictor(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {}, b"{}")

        def do_POST(self) -> None:
            photo = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                times[photo] = times.get(photo, 0) + 1
            response = respond(photo, times[photo])
            if response is None:
                self.close_connection = True
                self.connection.close()
            else:
                self._send(*response)

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def finish(self) -> None:
            if not self.wfile.closed and self.connection.fileno() >= 0:
                super().finish()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Predictor)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[Path]]:
    def written(*names: str) -> list[Path]:
        for name in names:
            (tmp_path / name).write_bytes(name.encode())
        return [tmp_path / name for name in names]

    return written


def answered(url: str, paths: list[Path], **settings: Any) -> list[dict[str, object]]:
    server = Server(url, 4)
    try:
        found = list(rows(server, paths, **{"at_once": 4, "patience": 60.0, **settings}))
    finally:
        server.close()
    assert all(("error" not in row) == fine for row, fine in found)
    return [row for row, _ in found]


def test_rows_come_in_order_whoever_is_answered_first(files: Callable[..., list[Path]]) -> None:
    names = [f"{number}.jpg" for number in range(20)]

    def respond(photo: bytes, _times: int) -> tuple[int, dict[str, str], bytes]:
        time.sleep(0.05 if photo == b"0.jpg" else 0)
        return 200, {}, answer(photo.decode())

    paths = files(*names)
    with serving(respond) as url:
        found = answered(url, paths)
    assert [row["breed"] for row in found] == names
    assert found[0] == {
        "path": str(paths[0]),
        "breed": "0.jpg",
        "index": 3,
        "probability": 0.75,
        "top": [{"breed": "0.jpg", "index": 3, "probability": 0.75}],
    }


def test_it_is_asked_again_where_there_is_no_time(
    files: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("tenacity.sleep_using_event", lambda _: pauses.append)

    def respond(photo: bytes, times: int) -> tuple[int, dict[str, str], bytes] | None:
        if photo == b"busy" and times < 4:
            return 503, {"Retry-After": "31"}, refusal("busy")
        if photo == b"many" and times < 3:
            return 429, {}, refusal("too many")
        if photo == b"reset" and times < 3:
            return None
        return 200, {}, answer(photo.decode())

    with serving(respond) as url:
        found = answered(url, files("busy", "many", "reset"), at_once=1)
    assert [row["breed"] for row in found] == ["busy", "many", "reset"]
    assert pauses.count(31.0) == 3
    assert len(pauses) >= 7


def test_a_photo_without_an_answer_has_a_row(files: Callable[..., list[Path]]) -> None:
    def respond(photo: bytes, _times: int) -> tuple[int, dict[str, str], bytes]:
        refused = {
            b"bad": (422, "The photo cannot be read."),
            b"big": (413, "The photo is too large."),
            b"odd": (500, "Something failed."),
        }
        if photo in refused:
            return refused[photo][0], {}, refusal(refused[photo][1])
        return 200, {}, answer(photo.decode())

    paths = files("bad", "pug", "big", "odd")
    with serving(respond) as url:
        found = answered(url, [*paths, paths[0].with_name("gone")])
    assert found[0] == {"path": str(paths[0]), "error": "The photo cannot be read."}
    assert found[1]["breed"] == "pug"
    assert found[2]["error"] == "The photo is too large."
    assert found[3]["error"] == "Something failed."
    assert "No such file" in str(found[4]["error"])


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ((404, {}, b"Not Found"), "responds with status 404 Not Found: is it a dogbreeds server"),
        ((200, {}, b"<html>"), "not a dogbreeds response: b'<html>'"),
        ((200, {}, b'{"score": 1}'), "not a dogbreeds response"),
        ((302, {"Location": "/login"}, b""), "responds with status 302"),
    ],
)
def test_a_server_of_somebody_else(
    files: Callable[..., list[Path]], response: tuple[int, dict[str, str], bytes], said: str
) -> None:
    with serving(lambda photo, times: response) as url, pytest.raises(UserError, match=said):
        answered(url, files("pug"))


def test_rows_before_the_end_are_kept(files: Callable[..., list[Path]]) -> None:
    def respond(photo: bytes, _times: int) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, answer("pug")) if photo in (b"1", b"2") else (404, {}, b"")

    found = []
    with serving(respond) as url:
        server = Server(url, 2)
        with pytest.raises(UserError):
            for row, _ in rows(server, files("1", "2", "3", "4", "5", "6", "7", "8"), 2, 60.0):
                found.append(row)
        server.close()
    assert len(found) == 2


def test_a_photo_in_vain_has_a_row_and_many_are_the_end(files: Callable[..., list[Path]]) -> None:
    def respond(photo: bytes, _times: int) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, answer("pug")) if photo.startswith(b"good") else (503, {}, refusal("busy"))

    with serving(respond) as url:
        found = answered(url, files("1", "good", "2", "3", "4", "good too"), at_once=1, patience=0.0)
        assert ["error" in row for row in found] == [True, False, True, True, True, False]
        assert "No response in 0 s (busy)" in str(found[0]["error"])
        with pytest.raises(UserError, match="No response in 0 s"):
            answered(url, files("1", "2", "3", "4", "good"), at_once=1, patience=0.0)


def test_nobody_waits_for_what_nobody_takes(files: Callable[..., list[Path]]) -> None:
    def respond(photo: bytes, _times: int) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, answer("pug")) if photo == b"1" else (503, {"Retry-After": "3000"}, refusal("busy"))

    with serving(respond) as url:
        server = Server(url, 2)
        taken: Any = rows(server, files("1", "2"), 2, 1e6)
        assert next(taken)[1]
        # The second photo is waiting for its time, and ends with whoever took rows.
        taken.close()
        server.close()


def test_nobody_is_there() -> None:
    with pytest.raises(UserError, match=r"url=http://127\.0\.0\.1:9: no server responds there \(.*refused"):
        Server("http://127.0.0.1:9", 1)
    with pytest.raises(ConfigError, match="must begin with http://"):
        Server("localhost:8080", 1)
    with pytest.raises(UserError, match=r"url=http://\[::1: no server responds there \("):
        Server("http://[::1", 1)


def test_patience_ends() -> None:
    def busy() -> None:
        raise Busy("throttled")

    with pytest.raises(UserError, match=r"No response in 0 s \(throttled\)\. .*patience_seconds="):
        retry(busy, 0.0)


def client_error(code: str, message: str, **members: Any) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}, **members}, "InvokeEndpoint")


class Runtime:
    """Answers with what it was given, in turn; exceptions are raised."""

    def __init__(self, *answers: Exception | bytes) -> None:
        self._answers = list(answers)

    def invoke_endpoint(self, **asked: Any) -> dict[str, Any]:
        assert asked["EndpointName"] == "dogs" and asked["ContentType"] == "application/octet-stream"
        found = self._answers.pop(0)
        if isinstance(found, Exception):
            raise found

        class Body:
            def read(self) -> bytes:
                assert isinstance(found, bytes)
                return found

        return {"Body": Body()}


def model_error(status: int, body: bytes) -> ClientError:
    return client_error("ModelError", "Received error", OriginalStatusCode=status, OriginalMessage=body.decode())


def test_endpoints_are_asked_again_too(files: Callable[..., list[Path]]) -> None:
    runtime = Runtime(
        client_error("ThrottlingException", "Rate exceeded"),
        client_error("ModelNotReadyException", "not ready"),
        model_error(503, refusal("busy")),
        model_error(429, refusal("too many")),
        ConnectionClosedError(endpoint_url="https://x"),
        answer("pug"),
        model_error(422, refusal("The photo cannot be read.")),
    )
    found = list(rows(Endpoint(runtime, "dogs", 10), files("one", "two", "much too large"), 1, 60.0))
    assert [fine for _, fine in found] == [True, False, False]
    assert found[0][0]["breed"] == "pug"
    assert found[1][0]["error"] == "The photo cannot be read."
    assert "14 bytes; at most 10" in str(found[2][0]["error"])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (client_error("ValidationError", "Endpoint dogs of account 1 not found."), "Cannot ask endpoint=dogs .*found"),
        (
            client_error("AccessDeniedException", "not authorized"),
            "Cannot ask endpoint=dogs .*not authorized.*permissions",
        ),
        (client_error("ExpiredTokenException", "The token has expired"), "Cannot ask endpoint=dogs .*expired"),
        (NoCredentialsError(), "Unable to locate credentials.* Run `aws configure`"),
    ],
)
def test_endpoints_that_never_answer(error: Exception, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Endpoint(Runtime(error), "dogs", 10).predict(b"photo")


def test_a_failing_container_is_no_reason_to_ask_again() -> None:
    with pytest.raises(PredictionFailed, match="status 500 Traceback"):
        Endpoint(Runtime(model_error(500, b"Traceback")), "dogs", 10).predict(b"photo")


def test_who_may_not_look_may_ask() -> None:
    class Blind:
        def describe_endpoint(self, **asked: Any) -> None:
            raise client_error("AccessDeniedException", "not authorized to perform: sagemaker:DescribeEndpoint")

    def clients(service: str, config: Any = None) -> Any:
        return Blind() if service == "sagemaker" else Runtime(answer("pug"))

    assert asker(clients, "dogs", 1, None).predict(b"photo")["breed"] == "pug"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (client_error("ThrottlingException", "Rate exceeded"), "endpoint=dogs is busy .*Rate exceeded.*: try again"),
        (EndpointConnectionError(endpoint_url="https://x"), "endpoint=dogs is busy .*https://x.*: try again"),
        (InvalidRegionError(region_name="bad region"), "Cannot ask endpoint=dogs .*bad region"),
        (NoCredentialsError(), "Unable to locate credentials.* Run `aws configure`"),
    ],
)
def test_nobody_can_be_asked_about_an_endpoint(error: Exception, said: str) -> None:
    def clients(service: str, config: Any = None) -> Any:
        raise error

    with pytest.raises(UserError, match=said):
        asker(clients, "dogs", 1, None)


class Queue:
    """S3, the runtime and the service of an asynchronous endpoint; every second look finds an answer."""

    def __init__(self) -> None:
        self.put: list[dict[str, Any]] = []
        self.looks = self.invoked = 0
        self.configs: dict[str, Any] = {}

    def __call__(self, service: str, config: Any = None) -> Queue:
        self.configs[service] = config
        return self

    def describe_endpoint(self, **asked: Any) -> dict[str, Any]:
        return {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://bucket/answers/"}}}

    def put_object(self, **asked: Any) -> None:
        self.put.append(asked)

    def invoke_endpoint_async(self, **asked: Any) -> dict[str, Any]:
        self.invoked += 1
        return {"OutputLocation": "s3://bucket/answers/1.out", "FailureLocation": "s3://bucket/failures/1.out"}

    def get_object(self, **asked: Any) -> dict[str, Any]:
        self.looks += 1
        if self.looks < 3:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "nothing"}}, "GetObject")
        return {"Body": io.BytesIO(answer("pug"))}


def test_an_answer_through_s3_is_looked_for_again(files: Callable[..., list[Path]]) -> None:
    queue = Queue()
    asked_one = asker(queue, "dogs", 1, "key-1")
    with pytest.raises(Busy, match=r"answers/1\.out does not exist yet"):
        asked_one.predict(b"one")
    ((row, fine),) = rows(asked_one, files("one"), 1, 60.0)
    assert fine and row["breed"] == "pug"
    # Asked once, however often its answer was looked for.
    (put,) = queue.put
    assert queue.invoked == 1
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == ("aws:kms", "key-1")
    # S3 is asked again by its client, which nobody else would do.
    assert queue.configs["s3"].retries is None
    assert queue.configs["sagemaker-runtime"].retries == {"total_max_attempts": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, r"Choose exactly one of package=<run>, endpoint=<name>, url=<server>\."),
        ({"package": "m", "url": "u"}, "got package=m url=u"),
    ],
)
def test_one_is_asked(changes: dict[str, Any], said: str) -> None:
    nobody: dict[str, Any] = {field.name: None for field in fields(PredictCommandConfig)}
    with pytest.raises(ConfigError, match=said), asked(PredictCommandConfig(**nobody | changes)):
        pass

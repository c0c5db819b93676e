"""A server in a process of its own, and a client that can misbehave."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dogbreeds.limits import Limits
from tests.conftest import ROOT

#: Seconds after which a test gives up on a server, however slow the machine.
PATIENCE = 90.0


def limits_of(section: DictConfig) -> Limits:
    """Returns the section `limits` of conf/serve.yaml."""
    limits = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Limits), section))
    assert isinstance(limits, Limits)
    return limits


def limits(*settings: str) -> Limits:
    """Returns the limits of conf/serve.yaml, some of them changed."""
    section = OmegaConf.load(ROOT / "conf/serve.yaml").limits
    return limits_of(OmegaConf.merge(section, OmegaConf.from_dotlist(list(settings))))


@dataclass(frozen=True)
class Reply:
    """What came back: 0 for a status when nothing did."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The word of an error."""
        assert self.headers["content-type"] == "application/json", self
        assert set(self.json) == {"error"} and set(self.json["error"]) == {"code", "message"}, self
        assert self.json["error"]["message"]
        return str(self.json["error"]["code"])


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen[str]
    port: int

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def get(self, path: str) -> Reply:
        return self.send(b"GET %s HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n" % path.encode())

    def ask(self, body: bytes, kind: str = "image/jpeg", *headers: str) -> Reply:
        return self.send(invocation(body, kind, "Connection: close", *headers))

    def send(self, data: bytes) -> Reply:
        """Sends bytes on a connection of their own, and returns the first reply."""
        with self.connect() as connection:
            send(connection, data)
            return read_reply(connection)

    def metrics(self) -> dict[str, float]:
        lines = self.get("/metrics").body.decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}

    def until_held(self, size: int) -> None:
        """Waits until the server holds bodies of this many bytes."""
        ended = time.monotonic() + PATIENCE
        while (held := self.metrics()["dogbreeds_held_bytes"]) != size:
            assert time.monotonic() < ended, f"the server holds {held} bytes"
            time.sleep(0.01)

    def until_ready(self) -> None:
        ended = time.monotonic() + PATIENCE
        while self.get("/ping").status != 200:
            assert time.monotonic() < ended, "the server does not become ready"
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal, and returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def invocation(body: bytes, kind: str, *headers: str) -> bytes:
    lines = ["POST /invocations HTTP/1.1", "Host: here", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "\r\n"]).encode() + body


def send(connection: socket.socket, data: bytes) -> None:
    """Sends as much as the server wants to have."""
    try:
        connection.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        return


def read_reply(connection: socket.socket) -> Reply:
    """Reads one reply, and leaves what comes behind it."""
    head = bytearray()
    try:
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            if not byte:
                return Reply(0, {}, bytes(head))
            head += byte
    except ConnectionResetError:
        return Reply(0, {}, bytes(head))
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
    if status.split()[1] == "100":
        return read_reply(connection)
    body = bytearray()
    # What the server refuses before there is a request ends with the connection.
    length = int(headers.get("content-length", 10**6))
    with contextlib.suppress(ConnectionResetError):
        while (missing := length - len(body)) and (part := connection.recv(missing)):
            body += part
    return Reply(int(status.split()[1]), headers, bytes(body))


def is_closed(connection: socket.socket) -> bool:
    """Waits until the server closes a connection on which nothing else comes."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@contextmanager
def served(package: Path, *settings: str, ready: bool = True) -> Iterator[Served]:
    """Runs scripts/serve.py on a free port, and ends it."""
    command = [sys.executable, str(ROOT / "scripts/serve.py"), f"package={package}", "port=0", *settings]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert "http://127.0.0.1:" in line, line
            server = Served(process, int(line.split("127.0.0.1:")[1].split()[0]))
            if ready:
                server.until_ready()
            yield server
        finally:
            if process.poll() is None:
                process.kill()

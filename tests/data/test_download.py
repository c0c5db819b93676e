"""Downloads over connections that break, from servers that misbehave."""

from __future__ import annotations

import io
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dogbreeds.data.download import Connection, DownloadError, download

CONNECTION = Connection(connect_timeout=60, read_timeout=60, retries=2, backoff=0)
ONCE = Connection(connect_timeout=60, read_timeout=60, retries=0, backoff=0)
BODY = bytes(range(256)) * 1024 + b"the end"


@dataclass
class Site:
    """What the test server serves and how it misbehaves."""

    body: bytes = BODY
    ranges: bool = True
    changed: bool = False
    closes_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, size = self.site, len(self.site.body)
        site.requests.append(dict(self.headers.items()))
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if site.ranges else None
        start = int(asked[1]) if asked else 0
        if site.statuses:
            self.answer(site.statuses.pop(0), b"")
        elif asked and site.changed:
            assert self.headers["If-Unmodified-Since"].endswith(" GMT")
            self.answer(412, b"")
        elif start and start >= size:
            self.answer(416, b"")
        else:
            self.answer(206 if asked else 200, site.body[start:])

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        limit = self.site.closes_after.pop(0) if content and self.site.closes_after else len(content)
        # Counted first: the client may be done before the next line of this thread.
        self.site.sent += len(content[:limit])
        self.wfile.write(content[:limit])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = Site()
    handler = type("SiteHandler", (Handler,), {"site": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/archive"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=40)


def test_resumes_within_a_run(site: Site, tmp_path: Path, console: Console) -> None:
    site.closes_after = [100_000]
    download(site.url, tmp_path / "file", CONNECTION, console)
    assert (tmp_path / "file").read_bytes() == BODY
    assert ["Range" in request for request in site.requests] == [False, True]
    assert site.sent == len(BODY)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("same_address", [True, False])
def test_resumes_in_the_next_run_from_the_same_address(
    site: Site, tmp_path: Path, console: Console, same_address: bool
) -> None:
    site.closes_after = [100_000]
    with pytest.raises(DownloadError, match=r"no connection|bytes arrived"):
        download(site.url, tmp_path / "file", ONCE, console)
    assert not (tmp_path / "file").exists()
    download(site.url if same_address else f"{site.url}?mirror", tmp_path / "file", ONCE, console)
    assert (tmp_path / "file").read_bytes() == BODY
    assert site.sent == len(BODY) + (0 if same_address else 100_000)


def test_a_server_without_ranges_starts_over(site: Site, tmp_path: Path, console: Console) -> None:
    site.ranges = False
    site.closes_after = [100_000]
    download(site.url, tmp_path / "file", CONNECTION, console)
    assert (tmp_path / "file").read_bytes() == BODY
    assert site.sent == 100_000 + len(BODY)


@pytest.mark.parametrize("size", [len(BODY), 1000])
def test_a_file_that_changed_meanwhile_starts_over(site: Site, tmp_path: Path, console: Console, size: int) -> None:
    site.closes_after = [100_000]
    with pytest.raises(DownloadError):
        download(site.url, tmp_path / "file", ONCE, console)
    site.body, site.changed = BODY[::-1][:size], size == len(BODY)
    download(site.url, tmp_path / "file", CONNECTION, console)
    assert (tmp_path / "file").read_bytes() == site.body


def test_answers_that_stay_truncated_end(site: Site, tmp_path: Path, console: Console) -> None:
    site.ranges = False
    site.closes_after = [len(BODY) - 1] * 10
    with pytest.raises(DownloadError):
        download(site.url, tmp_path / "file", CONNECTION, console)
    assert len(site.requests) == 3
    assert not (tmp_path / "file").exists()


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path, console: Console) -> None:
    site.statuses = [503, 429]
    download(site.url, tmp_path / "file", CONNECTION, console)
    assert (tmp_path / "file").read_bytes() == BODY
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("trying again") == 2


def test_a_missing_file_is_final(site: Site, tmp_path: Path, console: Console) -> None:
    site.statuses = [404]
    with pytest.raises(DownloadError, match="404"):
        download(site.url, tmp_path / "file", CONNECTION, console)
    assert len(site.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_connection_is_final(tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(DownloadError, match="no connection"):
            download(f"http://127.0.0.1:{unused.getsockname()[1]}/x.zip", tmp_path / "x.zip", CONNECTION, console)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x.zip", "x.zip"])
def test_other_addresses_are_refused(url: str, tmp_path: Path, console: Console) -> None:
    with pytest.raises(DownloadError, match=re.escape(url)):
        download(url, tmp_path / "x.zip", CONNECTION, console)


def test_a_terminal_gets_a_bar(site: Site, tmp_path: Path) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    download(site.url, tmp_path / "file", CONNECTION, terminal)
    assert isinstance(terminal.file, io.StringIO)
    assert "100%" in terminal.file.getvalue()

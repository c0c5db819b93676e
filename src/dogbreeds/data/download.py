"""Download one large file over a connection that may break."""

import zlib
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import requests
from requests import codes
from rich.console import Console
from rich.progress import Progress
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential
from urllib3.exceptions import HTTPError

_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Connection:
    """Timeouts in seconds; how often a broken transfer is resumed, and the pause before, which doubles each time."""

    connect_timeout: float
    read_timeout: float
    retries: int
    backoff: float


class DownloadError(Exception):
    """A file that cannot be downloaded; the message says why, as the end of a sentence."""


class _InterruptedError(DownloadError):
    """A transfer that stopped and may succeed when it is resumed."""


def download(url: str, destination: Path, connection: Connection, console: Console) -> None:
    """Downloads a file, resuming from the bytes that an earlier try left beside it in a `.part` file.

    The file appears when every byte is there. Proxies are taken from the environment.
    """
    # Bytes from another address belong to another part.
    part = destination.with_name(f"{destination.name}.{zlib.crc32(url.encode()):08x}.part")
    attempts = Retrying(
        retry=retry_if_exception_type(_InterruptedError),
        stop=stop_after_attempt(connection.retries + 1),
        wait=wait_exponential(multiplier=connection.backoff),
        before_sleep=lambda state: console.out(f"{destination.name}: interrupted, trying again", highlight=False),
        reraise=True,
    )
    with requests.Session() as session, Progress(console=console, disable=not console.is_terminal) as bar:
        attempts(_transfer, session, url, part, connection, bar)
    part.replace(destination)


def _transfer(session: requests.Session, url: str, part: Path, connection: Connection, bar: Progress) -> None:
    """Asks for the bytes that are missing and stores them; returns when all of them are there."""
    offset = part.stat().st_size if part.exists() else 0
    # Not compressed on the way, so that ranges and sizes count the bytes of the file itself.
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Unmodified-Since": formatdate(part.stat().st_mtime, usegmt=True)}
    timeout = connection.connect_timeout, connection.read_timeout
    try:
        with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
            status = response.status_code
            if offset and status in (codes.precondition_failed, codes.requested_range_not_satisfiable):
                part.unlink()
                raise _InterruptedError("the file on the server has changed")
            if status >= 500 or status == codes.too_many_requests:
                raise _InterruptedError(f"the server answered {status} {response.reason}")
            response.raise_for_status()
            _store(response, part, offset if status == codes.partial_content else 0, bar)
    except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
        reason = "the server does not answer" if isinstance(error, requests.Timeout) else "no connection"
        # Without a byte so far, there is no network, or no such server.
        raise (_InterruptedError if part.exists() else DownloadError)(reason) from error
    except requests.RequestException as error:
        raise DownloadError(str(error)) from error


def _store(response: requests.Response, part: Path, offset: int, bar: Progress) -> None:
    total = offset + int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
    task = bar.add_task(part.name, completed=offset, total=total)
    with part.open("ab" if offset else "wb") as file:
        for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
            file.write(chunk)
            bar.advance(task, len(chunk))
    if total is not None and part.stat().st_size != total:
        raise _InterruptedError(f"{part.stat().st_size} of {total} bytes arrived")

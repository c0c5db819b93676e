"""Download a public dog-breed set, going on where an earlier try stopped, and unpack it as breed folders."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests import codes
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from urllib3.exceptions import HTTPError

from dogbreeds.data.archives import (
    CHUNK_BYTES,
    BadArchiveError,
    Source,
    Summary,
    find_dataset,
    install_archive,
    require_space,
)
from dogbreeds.errors import ConfigError, UserError

_CONTENT_RANGE = re.compile(r"bytes (?:(?P<start>\d+)-\d+|\*)/(?P<total>\d+|\*)")


@dataclass(frozen=True)
class Connection:
    """How patient a download is.

    Attributes:
        connect_timeout: Seconds to wait for the server to accept the connection.
        read_timeout: Seconds without a single byte after which a connection counts as broken.
        retries: How many times a broken download is taken up again in one run.
        backoff: Seconds before the first retry; each further wait is twice as long.
    """

    connect_timeout: float
    read_timeout: float
    retries: int
    backoff: float


class _InterruptedTransferError(Exception):
    """A transfer that stopped and may be taken up again."""


def choose_source(name: str, table: Mapping[str, Mapping[str, Any]]) -> Source:
    """Looks up a set in the table of conf/get_data.yaml.

    Raises:
        ConfigError: The table has no such set; the message lists those that it has.
    """
    if name not in table:
        raise ConfigError(f"There is no dataset {name!r}. Type dataset=NAME with one of: {', '.join(table)}.")
    row = table[name]
    return Source(name, row["url"], row["archive"], row["folder"], row["rename"])


def get_dataset(
    source: Source, target: Path, connection: Connection, keep_archive: bool, console: Console
) -> Summary:
    """Makes a public set present as a data directory, doing only what is still missing.

    The directory appears under its final name in one step at the end, so it is either whole or absent. An
    archive that already lies beside it is used without asking the server.

    Args:
        source: The set.
        target: The data directory to make; the archive is stored in its parent.
        connection: How patient the download is.
        keep_archive: Whether the archive stays after unpacking.
        console: Where progress is shown.

    Returns:
        What the data directory holds.

    Raises:
        UserError: Download or archive failed, the disk is full, or the target holds something else.
    """
    with _disk_errors_as_user_errors(target):
        present = find_dataset(source, target)
        if present is not None:
            _say(console, f"{source.name} is already in {target}: nothing to do.")
            return present
        target.parent.mkdir(parents=True, exist_ok=True)
        archive = target.parent / source.archive
        if archive.exists():
            _say(console, f"Using the archive {archive}, which is already there.")
        else:
            download(source.url, archive, connection, console)
        _say(console, f"Checking and unpacking {archive} ...")
        summary = _install_or_delete(source, archive, target)
        if not keep_archive:
            archive.unlink()
        return summary


def download(url: str, destination: Path, connection: Connection, console: Console) -> None:
    """Downloads a file, going on from the bytes that an earlier try left in `<destination>.part`.

    Args:
        url: An http or https address.
        destination: Appears only when every byte is there; its parent must exist.
        connection: Timeouts, number of retries and the wait between them.
        console: Gets a progress bar on a terminal, else a line every tenth of the way.

    Raises:
        UserError: Unusable address, no connection, refused by the server, or broken off too many times.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"Cannot download {url}: only http and https work.\n{_correct_url(destination)}")
    part = _PartialFile(destination, url)
    report = _ProgressReport(destination.name, console)
    with requests.Session() as session, report.bar:
        for attempt in range(connection.retries + 1):
            try:
                _transfer(session, part, connection, report, is_first=attempt == 0)
                break
            except _InterruptedTransferError as error:
                if attempt == connection.retries:
                    raise UserError(
                        f"The download of {url} failed at attempt {attempt + 1}: {error}.\n"
                        f"Run the same command again to go on. {_by_hand(destination)}"
                    ) from error
                _say(console, f"{destination.name}: interrupted ({error}), trying again")
                time.sleep(connection.backoff * 2**attempt)
    part.finish()


class _PartialFile:
    """The bytes so far in `<name>.part`, and beside them what identifies their file on the server."""

    def __init__(self, destination: Path, url: str) -> None:
        self.destination = destination
        self.url = url
        self.path = destination.with_name(f"{destination.name}.part")
        self._origin = destination.with_name(f"{destination.name}.part.origin")

    def resume_point(self) -> tuple[int, str]:
        """Number of usable bytes and the ETag or date of their file; 0 where it cannot be identified."""
        if not self.path.is_file() or not self._origin.is_file():
            return 0, ""
        url, _, validator = self._origin.read_text(encoding="utf-8").partition("\n")
        if url != self.url or not validator:
            return 0, ""
        return self.path.stat().st_size, validator

    def restart(self, validator: str) -> None:
        self.path.write_bytes(b"")
        self._origin.write_text(f"{self.url}\n{validator}", encoding="utf-8")

    def finish(self) -> None:
        self.path.replace(self.destination)
        self._origin.unlink()


class _ProgressReport:
    """A progress bar on a terminal, a plain line at every tenth of a known size elsewhere."""

    def __init__(self, name: str, console: Console) -> None:
        self._name = name
        self._console = console
        self._tenths = -1
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self.bar.add_task(name, total=None)

    def show(self, done: int, total: int | None) -> None:
        self.bar.update(self._task, completed=done, total=total)
        if self._console.is_terminal or not total:
            return
        tenths = 10 * done // total
        if tenths != self._tenths:
            _say(self._console, f"{self._name}: {10 * tenths} % of {decimal(total)}")
            self._tenths = tenths


def _transfer(
    session: requests.Session,
    part: _PartialFile,
    connection: Connection,
    report: _ProgressReport,
    is_first: bool,
) -> None:
    """Asks for the bytes that are missing and stores them; returns only when all are there."""
    offset, validator = part.resume_point()
    # Not compressed on the way: ranges and sizes then count the bytes of the archive itself.
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    with _request(session, part, headers, connection, is_first) as response:
        if offset and response.status_code == codes.requested_range_not_satisfiable:
            if _content_range(response) == (None, offset):
                return
            part.restart("")
            raise _InterruptedTransferError("the file on the server has changed")
        _refuse_error_status(response, part.destination)
        if response.status_code != codes.partial_content:
            offset = 0
            part.restart(_validator(response))
        elif not offset or not _continues(response, offset, validator):
            part.restart("")
            raise _InterruptedTransferError("the server sent another part than the one asked for")
        total = _total_size(response)
        if total is not None:
            # Images hardly compress: what is unpacked takes about as much room again.
            require_space(part.path.parent, 2 * total - offset)
        offset = _store(response, part.path, report, offset, total)
        if total is not None and offset != total:
            raise _InterruptedTransferError(f"{offset} of {total} bytes arrived")


def _request(
    session: requests.Session,
    part: _PartialFile,
    headers: dict[str, str],
    connection: Connection,
    is_first: bool,
) -> requests.Response:
    """Sends the request; failing to connect is final at the first try: there is no network."""
    timeout = (connection.connect_timeout, connection.read_timeout)
    try:
        return session.get(part.url, headers=headers, stream=True, timeout=timeout)
    except (requests.ConnectionError, requests.Timeout) as error:
        reason = _connection_problem(error)
        if not is_first:
            raise _InterruptedTransferError(reason) from error
        raise UserError(
            f"Cannot reach {urlsplit(part.url).netloc}: {reason}.\n"
            f"Check the network and run the same command again. {_by_hand(part.destination)}"
        ) from error
    except requests.RequestException as error:
        raise UserError(f"Cannot download {part.url}: {error}.\n{_correct_url(part.destination)}") from error


def _connection_problem(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate was not accepted"
    return "no connection"


def _refuse_error_status(response: requests.Response, destination: Path) -> None:
    status = f"{response.status_code} {response.reason}"
    if response.status_code >= 500 or response.status_code == codes.too_many_requests:
        raise _InterruptedTransferError(f"the server answered {status}")
    if response.status_code not in (codes.ok, codes.partial_content):
        raise UserError(f"Cannot download {response.url}: the server answered {status}.\n{_correct_url(destination)}")


def _store(response: requests.Response, path: Path, report: _ProgressReport, offset: int, total: int | None) -> int:
    """Appends the answer to the partial file and returns how many bytes that file now has."""
    with path.open("ab") as file:
        report.show(offset, total)
        try:
            for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                file.write(chunk)
                offset += len(chunk)
                report.show(offset, total)
        except HTTPError as error:
            raise _InterruptedTransferError(f"connection lost after {decimal(offset)}") from error
    return offset


def _validator(response: requests.Response) -> str:
    """What If-Range can name: a strong ETag, else the date; empty where the server gives neither."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _continues(response: requests.Response, offset: int, validator: str) -> bool:
    """Whether a partial answer starts where ours ends and, where it says so, is of the same file."""
    start, _ = _content_range(response)
    return start == offset and _validator(response) in ("", validator)


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None:
        return None, None
    start, total = match["start"], match["total"]
    return int(start) if start else None, int(total) if total != "*" else None


def _total_size(response: requests.Response) -> int | None:
    if response.status_code == codes.partial_content:
        return _content_range(response)[1]
    length = response.headers.get("Content-Length")
    return int(length) if length is not None else None


def _install_or_delete(source: Source, archive: Path, target: Path) -> Summary:
    try:
        return install_archive(source, archive, target)
    except BadArchiveError as error:
        archive.unlink()
        raise UserError(
            f"{archive} {error}. It was deleted.\n"
            "Run the same command again to download it afresh. If that does not help: "
            f"{_correct_url(archive)}"
        ) from error


@contextmanager
def _disk_errors_as_user_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Cannot write {error.filename or target.parent}: {error.strerror or error}.\n"
            "Put that right and run the same command again, or choose another place with dir=FOLDER."
        ) from error


def _correct_url(destination: Path) -> str:
    return f"Correct its url in conf/get_data.yaml. {_by_hand(destination)}"


def _by_hand(destination: Path) -> str:
    return f"Or put the archive at {destination} by other means and run the command again."


def _say(console: Console, line: str) -> None:
    console.out(line, highlight=False)

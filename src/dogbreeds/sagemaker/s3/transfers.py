"""Transfers many files to and from S3 in parallel, with a progress bar; their digests name them there."""

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from s3transfer.futures import TransferFuture
from s3transfer.manager import TransferConfig, TransferManager
from s3transfer.subscribers import BaseSubscriber

from dogbreeds.errors import DataError, UserError

# S3 checks the SHA-256 of a whole object only where it comes in one request, which has at most 5 GiB:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html
_LARGEST_REQUEST = 5 * 1024**3


@dataclass(frozen=True)
class FileDigest:
    """A file when it was read: the SHA-256 of its bytes, in hexadecimal digits, and their number."""

    path: Path
    digest: str
    size: int


def digest_of(path: Path) -> FileDigest:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    return FileDigest(path, digest, size)


def digests_of(paths: Sequence[Path]) -> Iterator[FileDigest]:
    """Digests files in parallel, and yields them in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(digest_of, paths)


def encryption(kms_key: str | None) -> dict[str, str]:
    """Returns the arguments of an upload that set its encryption key; None leaves encryption to the bucket."""
    return {} if kms_key is None else {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}


def split_uri(uri: str) -> tuple[str, str]:
    """Returns bucket and key of a URI such as `s3://bucket/folder/name`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket or not key:
        raise UserError(f"{uri} is not an S3 URI such as s3://bucket/folder/name.")
    return bucket, key


@dataclass(frozen=True)
class Stored:
    """An object: its key, size in bytes, entity tag and time of modification."""

    key: str
    size: int
    etag: str
    written: datetime


def stored_under(client: Any, bucket: str, prefix: str, delimiter: str = "") -> dict[str, Stored]:
    """Returns the objects below a prefix, by their keys; only those of its own folder with delimiter `/`."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter=delimiter)
    listed = [found for page in pages for found in page.get("Contents", [])]
    return {one["Key"]: Stored(one["Key"], one["Size"], one["ETag"], one["LastModified"]) for one in listed}


class _Bar(BaseSubscriber):  # type: ignore[misc]
    """Moves a progress bar."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def on_progress(self, bytes_transferred: int, **_: Any) -> None:
        self._progress.advance(self._task, bytes_transferred)


class _Known(BaseSubscriber):  # type: ignore[misc]
    """Provides size and tag of an object, which would otherwise cost a request."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    def on_queued(self, future: TransferFuture, **_: Any) -> None:
        future.meta.provide_transfer_size(self._stored.size)
        future.meta.provide_object_etag(self._stored.etag)


class Transfers:
    """Starts transfers; they run in parallel, as many as the client has connections. Made by `running`."""

    def __init__(self, manager: TransferManager, bar: _Bar, encryption: Mapping[str, str]) -> None:
        self._manager, self._bar, self._encryption = manager, bar, dict(encryption)

    def upload(self, file: FileDigest, bucket: str, key: str) -> TransferFuture:
        """Starts to upload a file; `result()` of the future waits for its end.

        S3 refuses a file that has changed since its digest was computed, with the error code BadDigest.
        """
        checksum = base64.b64encode(bytes.fromhex(file.digest)).decode()
        checked = {"ChecksumSHA256": checksum} if file.size < _LARGEST_REQUEST else {}
        return self._manager.upload(str(file.path), bucket, key, {**self._encryption, **checked}, [self._bar])

    def copy(self, source: Stored, bucket: str, key: str) -> TransferFuture:
        place = {"Bucket": bucket, "Key": source.key}
        return self._manager.copy(place, bucket, key, self._encryption, [_Known(source), self._bar])

    def download(self, bucket: str, source: Stored, path: Path) -> TransferFuture:
        """Starts to download an object; the file appears when it is complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._manager.download(bucket, source.key, str(path), None, [_Known(source), self._bar])

    def skip(self, size: int) -> None:
        self._bar.on_progress(size)


@contextmanager
def running(client: Any, encryption: Mapping[str, str], console: Console, title: str, size: int) -> Iterator[Transfers]:
    """Yields a starter of transfers; all have ended when the block ends.

    A console that is no terminal shows one line in place of a progress bar. `size` is in bytes.
    """
    words, moved = TextColumn("{task.description}"), (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bar = Progress(words, BarColumn(), *moved, console=console, disable=not console.is_terminal, transient=True)
    console.out(f"{title}: {decimal(size)}", highlight=False)
    connections = client.meta.config.max_pool_connections
    config = TransferConfig(multipart_threshold=_LARGEST_REQUEST, max_request_concurrency=connections)
    with bar, TransferManager(client, config) as manager:
        yield Transfers(manager, _Bar(bar, bar.add_task(title, total=size)), encryption)

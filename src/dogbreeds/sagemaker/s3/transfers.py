"""Many files to and from S3 at once, with a progress bar, and what S3 says to it in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from s3transfer.futures import TransferFuture
from s3transfer.manager import TransferConfig, TransferManager
from s3transfer.subscribers import BaseSubscriber

from dogbreeds.errors import UserError

_MISSING = ("404", "NoSuchKey", "NotFound")
_FORBIDDEN = ("403", "AccessDenied", "AllAccessDisabled")


class StorageError(UserError):
    """S3 cannot be reached, refuses something, or does not have what was looked for."""


class MissingObjectError(StorageError):
    """An object that is not there."""


def encryption(kms_key: str | None) -> dict[str, str]:
    """Returns the arguments of an upload that name its encryption key; None leaves encryption to the bucket."""
    return {} if kms_key is None else {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}


def split_uri(uri: str) -> tuple[str, str]:
    """Returns bucket and key of an address such as `s3://bucket/folder/name`.

    Raises:
        StorageError: It is no such address.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket or not key:
        raise StorageError(f"{uri} is no address in S3, such as s3://bucket/folder/name.")
    return bucket, key


@dataclass(frozen=True)
class Stored:
    """An object: its key, size in bytes, entity tag, and when it was last written."""

    key: str
    size: int
    etag: str
    written: datetime


def stored_under(client: Any, bucket: str, prefix: str, delimiter: str = "") -> dict[str, Stored]:
    """Returns all objects whose keys begin with something, by their keys; in one folder alone with delimiter `/`."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter=delimiter)
    listed = [found for page in pages for found in page.get("Contents", [])]
    return {one["Key"]: Stored(one["Key"], one["Size"], one["ETag"], one["LastModified"]) for one in listed}


class Transfers:
    """Uploads and copies of one step, as many at a time as the client has connections."""

    def __init__(
        self, manager: TransferManager, progress: Progress, task: Any, encryption: Mapping[str, str]
    ) -> None:
        """Is made by `transfers`."""
        self._manager, self._progress, self._task, self._encryption = manager, progress, task, dict(encryption)

    def upload(self, path: Path, bucket: str, key: str) -> TransferFuture:
        """Begins to upload a file; `result()` of what it returns waits for its end."""
        return self._manager.upload(str(path), bucket, key, self._encryption, [self._bar()])

    def copy(self, source: Stored, bucket: str, key: str) -> TransferFuture:
        """Begins to copy an object inside a bucket."""
        place = {"Bucket": bucket, "Key": source.key}
        return self._manager.copy(place, bucket, key, self._encryption, [_Known(source), self._bar()])

    def download(self, bucket: str, source: Stored, path: Path) -> TransferFuture:
        """Begins to download an object; the file appears when it is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._manager.download(bucket, source.key, str(path), None, [_Known(source), self._bar()])

    def skip(self, size: int) -> None:
        """Counts bytes that are there already."""
        self._progress.advance(self._task, size)

    def _bar(self) -> BaseSubscriber:
        return _Bar(self._progress, self._task)


class _Bar(BaseSubscriber):  # type: ignore[misc]
    """Moves a progress bar."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def on_progress(self, bytes_transferred: int, **_: Any) -> None:
        self._progress.advance(self._task, bytes_transferred)


class _Known(BaseSubscriber):  # type: ignore[misc]
    """Says what is known of an object, which S3 would be asked for otherwise."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    def on_queued(self, future: TransferFuture, **_: Any) -> None:
        future.meta.provide_transfer_size(self._stored.size)
        future.meta.provide_object_etag(self._stored.etag)


@contextmanager
def transfers(
    client: Any, encryption: Mapping[str, str], console: Console, title: str, size: int
) -> Iterator[Transfers]:
    """Yields what uploads, copies and downloads; all of it is done when the block ends, or undone when it fails.

    Args:
        client: A boto3 client of S3.
        encryption: What says how new objects are encrypted.
        console: Has a progress bar where it is a terminal, else one line.
        title: What is transferred.
        size: Bytes of it in total.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    console.out(f"{title}: {decimal(size)}", highlight=False)
    config = TransferConfig(max_request_concurrency=client.meta.config.max_pool_connections)
    with bar, TransferManager(client, config) as manager:
        yield Transfers(manager, bar, bar.add_task(title, total=size), encryption)


@contextmanager
def storage_errors(place: str) -> Iterator[None]:
    """Says what S3 has against something, and what to change.

    Args:
        place: The URI that it is about.

    Raises:
        StorageError: In the place of what boto3 raises.
    """
    try:
        yield
    except ClientError as error:
        code, said = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        if code == "NoSuchBucket":
            raise StorageError(
                f"{place}: there is no such bucket. Make it, or name another one with sagemaker.bucket=..."
            ) from error
        if code in _MISSING:
            raise MissingObjectError(f"{place}: there is nothing.") from error
        if code in _FORBIDDEN:
            raise StorageError(
                f"{place}: S3 does not let you ({error.operation_name}: {said}). Use credentials that may, or "
                "another bucket with sagemaker.bucket=..."
            ) from error
        raise StorageError(f"{place}: S3 answers {code} to {error.operation_name} ({said}).") from error
    except BotoCoreError as error:
        raise StorageError(f"{place}: S3 cannot be asked ({error}).") from error

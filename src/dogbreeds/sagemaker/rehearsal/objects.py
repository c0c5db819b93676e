"""Keeps the objects of S3 as files; moto speaks the protocol."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import threading
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dogbreeds.errors import UserError

if TYPE_CHECKING:
    from moto.s3.models import FakeBucket, FakeKey, S3Backend

#: The account of all rehearsals, which is moto's own.
ACCOUNT = "123456789012"
_TABLES = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, region TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL, key TEXT NOT NULL, file TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    modified REAL NOT NULL, details TEXT NOT NULL, PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;
"""
# Held by who has moto's state.
_MOTO = threading.Lock()
# What else of an object has to come back; `metadata` are its headers.
_DETAILS = ("encryption", "kms_key_id", "checksum_algorithm", "checksum_value", "checksum_type", "checksum_parts")


class NoBucketError(Exception):
    """An object was to be put into a bucket that does not exist."""


class _FileContent:
    """Stands where moto has an object's content in memory: a file that is open only while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def seek(self, _position: int) -> None:
        """Moto always reads from the start."""

    def read(self, _size: int = -1) -> bytes:
        return self.path.read_bytes()

    def close(self) -> None:
        """There is nothing open."""


class Objects:
    """All buckets of a rehearsal, in a directory that outlives the process.

    Moto keeps objects in memory. Here it sees each of them as a file, and after each request that changes something
    the change is written down before the answer goes out. Settings of buckets (policies, versions, tags) last as
    long as the process.

    Raises:
        UserError: This process has another one open; moto has one state for all.
    """

    def __init__(self, directory: Path) -> None:
        if not _MOTO.acquire(blocking=False):
            raise UserError("Another rehearsal is open in this process: close it first.")
        from moto.s3.models import s3_backends

        self._files = directory / "objects"
        self._files.mkdir(parents=True, exist_ok=True)
        self._backend: S3Backend = s3_backends[ACCOUNT]["aws"]
        _reset_moto()
        self._lock = threading.RLock()
        self._index = sqlite3.connect(directory / "index.sqlite", check_same_thread=False)
        self._index.execute("PRAGMA journal_mode=WAL")
        self._index.execute("PRAGMA synchronous=NORMAL")
        self._index.executescript(_TABLES)
        self._load()

    def close(self) -> None:
        """Frees what moto holds; the files stay."""
        with self._lock:
            _reset_moto()
            self._index.close()
        _MOTO.release()

    def find(self, bucket: str, key: str) -> Path | None:
        with self._lock:
            row = self._index.execute(
                "SELECT file FROM objects WHERE bucket = ? AND key = ?", (bucket, key)
            ).fetchone()
        return self._path(row[0]) if row else None

    def has_bucket(self, bucket: str) -> bool:
        return bucket in self._backend.buckets

    def under(self, uri: str) -> list[tuple[str, Path]]:
        """Returns keys and files of the objects whose URI begins like this one, by key."""
        bucket, prefix = split_uri(uri)
        with self._lock:
            rows = self._index.execute(
                "SELECT key, file FROM objects WHERE bucket = ? AND substr(key, 1, ?) = ? ORDER BY key",
                (bucket, len(prefix), prefix),
            ).fetchall()
        return [(key, self._path(file)) for key, file in rows]

    def put(self, uri: str, content: Path | bytes) -> None:
        """Makes an object of a file or of some bytes; raises NoBucketError where there is no such bucket."""
        from moto.s3.models import FakeKey

        name, key_name = split_uri(uri)
        if not self.has_bucket(name):
            raise NoBucketError(f"there is no bucket {name}")
        file = self._path(uuid.uuid4().hex)
        file.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            shutil.copyfile(content, file)
        key = FakeKey(key_name, b"", ACCOUNT, self._backend.region_name, etag=_md5(file), bucket_name=name)
        with self._lock:
            _show(key, file)
            self._backend.get_bucket(name).keys.setlist(key_name, [key])
            self._write(name, key, file)
            self._index.commit()

    def keep(self, name: str, key_name: str) -> None:
        """Writes down what a request to moto has made of an object; of the whole bucket where it named none."""
        with self._lock:
            bucket = self._backend.buckets.get(name)
            if bucket is None:
                self._index.execute("DELETE FROM buckets WHERE name = ?", (name,))
                self._forget(name, self._known(name))
            elif key_name:
                self._keep_object(bucket, key_name)
            else:
                self._index.execute("INSERT OR REPLACE INTO buckets VALUES (?, ?)", (name, bucket.region_name))
                for each in {*self._known(name), *bucket.keys}:
                    self._keep_object(bucket, each)
            self._index.commit()

    def _load(self) -> None:
        from moto.s3.models import FakeKey

        for name, region in self._index.execute("SELECT name, region FROM buckets").fetchall():
            self._backend.create_bucket(name, region)
        rows = self._index.execute("SELECT bucket, key, file, etag, modified, details FROM objects")
        for name, key_name, file, etag, modified, details in rows:
            bucket = self._backend.get_bucket(name)
            key = FakeKey(key_name, b"", ACCOUNT, bucket.region_name, etag=etag, bucket_name=name)
            known = json.loads(details)
            key.set_metadata(known.pop("metadata"))
            for attribute, value in known.items():
                setattr(key, attribute, value)
            # Moto's times are in UTC without saying so.
            key.last_modified = datetime.fromtimestamp(modified, UTC).replace(tzinfo=None)
            _show(key, self._path(file))
            bucket.keys.setlist(key_name, [key])

    def _known(self, bucket: str) -> list[str]:
        return [key for (key,) in self._index.execute("SELECT key FROM objects WHERE bucket = ?", (bucket,))]

    def _keep_object(self, bucket: FakeBucket, key_name: str) -> None:
        from moto.s3.models import FakeKey

        key = bucket.keys.get(key_name)
        if not isinstance(key, FakeKey):
            self._forget(bucket.name, [key_name])
        elif not isinstance(key._value_buffer, _FileContent):
            file = self._path(uuid.uuid4().hex)
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(key.value)
            self._write(bucket.name, key, file)
            _show(key, file)

    def _write(self, bucket: str, key: FakeKey, file: Path) -> None:
        self._forget(bucket, [key.name])
        details = {"metadata": dict(key.metadata)} | {name: getattr(key, name) for name in _DETAILS}
        modified = key.last_modified.replace(tzinfo=UTC).timestamp()
        row = (bucket, key.name, file.name, file.stat().st_size, key.etag.strip('"'), modified)
        self._index.execute("INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, json.dumps(details)))

    def _forget(self, bucket: str, keys: Iterable[str]) -> None:
        for key in keys:
            statement = "DELETE FROM objects WHERE bucket = ? AND key = ? RETURNING file"
            for (file,) in self._index.execute(statement, (bucket, key)).fetchall():
                self._path(file).unlink(missing_ok=True)

    def _path(self, file: str) -> Path:
        return self._files / file[:2] / file


def _reset_moto() -> None:
    from moto.iam.models import iam_backends
    from moto.s3.models import s3_backends

    for backends in (iam_backends, s3_backends):
        backends[ACCOUNT]["aws"].reset()


def split_uri(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _show(key: FakeKey, file: Path) -> None:
    """Lets moto see a file as the content of one of its objects."""
    key._value_buffer.close()
    key._value_buffer = _FileContent(file)  # type: ignore[assignment]
    key.contentsize = file.stat().st_size


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

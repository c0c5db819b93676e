"""The index of the feature store, in SQLite: where each photo's features are, and which process computes what.

Everything here can be rebuilt from the segments, so commits do not wait for the disk; a killed process leaves the
last committed state. Opening reads the schema alone: damage shows when a statement meets it, and that statement
leaves a mark by which the next process that opens the index rebuilds it. The column `photo` is a photo's digest.

A process that computes features holds a file lock, released when it dies: so others know which are alive.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dogbreeds.errors import CacheError

_VERSION = 1
_BUSY_SECONDS = 60.0
# Older versions of SQLite take 999 parameters in one statement.
_MAX_PARAMETERS = 900

# The codes of a file that is not a sound index, and not just locked, out of reach or without room.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA)
_PRIMARY_CODE = 0xFF


class NewerIndexError(Exception):
    """A newer version of the project wrote the index."""


class DamagedIndexError(CacheError):
    """The file is not an index, or a damaged one."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The index of the feature store is damaged ({reason}). Run the same command again: the index will be "
            "rebuilt, and no features are lost."
        )
        self.reason = reason


class UnavailableIndexError(CacheError, OSError):
    """The index is locked, out of reach, or its disk is full."""


class Index:
    """One connection to the index, shared by the threads of a process."""

    def __init__(self, path: Path, fill: Callable[[Index], None]) -> None:
        """Opens an index, or creates one, which appears with what `fill` enters of the content of the segments.

        Raises:
            DamagedIndexError: The file is damaged.
            NewerIndexError: This version cannot read it.
            OSError: It cannot be opened.
        """
        self._lock = threading.RLock()
        self._mark = damage_mark(path)
        if self._mark.exists():
            raise DamagedIndexError("an earlier run found it so")
        with self._translated():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with self._translated():
                self._open(fill)
        except BaseException as error:
            self._connection.close()
            code = getattr(error.__cause__, "sqlite_errorcode", 0) & _PRIMARY_CODE
            if code == sqlite3.SQLITE_READONLY and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
                # A damaged version of the file format reads as one that may not be written.
                raise DamagedIndexError(str(error)) from error
            raise

    def _open(self, fill: Callable[[Index], None]) -> None:
        execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise NewerIndexError
        if version == 0:
            with self.transaction():
                _create(self._connection)
                fill(self)
                execute(f"PRAGMA user_version = {_VERSION}")
        else:
            with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
                _create(fresh)
                if _schema(self._connection) != _schema(fresh):
                    raise DamagedIndexError("its tables are not the expected ones")
            # A place that cannot be written shows itself here, and not after a long pass.
            execute(f"PRAGMA user_version = {_VERSION}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Makes the statements inside appear at once, or not at all.

        Raises:
            OSError: The disk is full, or the index stays locked.
        """
        with self._lock, self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk ends the transaction by itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._lock, self._translated():
            return self._connection.execute(statement, parameters).fetchall()

    def query_many(self, statement: str, keys: Sequence[object], *parameters: object) -> Iterator[tuple[Any, ...]]:
        """Runs a statement that ends in `IN ({keys})` for any number of keys."""
        for start in range(0, len(keys), _MAX_PARAMETERS):
            part = keys[start : start + _MAX_PARAMETERS]
            yield from self.query(statement.format(keys=", ".join("?" * len(part))), *parameters, *part)

    def execute_many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        with self._lock, self._translated():
            self._connection.executemany(statement, rows)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns errors of SQLite into what they mean to callers: damage, or a place that cannot be used now."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError) or not hasattr(error, "sqlite_errorcode"):
                raise
            if error.sqlite_errorcode & _PRIMARY_CODE in _DAMAGE:
                with contextlib.suppress(OSError):
                    self._mark.touch()
                raise DamagedIndexError(str(error)) from error
            said = "the index of the feature store (cache.dir) cannot be used:"
            raise UnavailableIndexError(f"{said} {error}") from error


def damage_mark(path: Path) -> Path:
    """Returns the file that is there once an index has turned out to be damaged."""
    return path.with_name(f"{path.name}-damaged")


def _create(connection: sqlite3.Connection) -> None:
    for statement in Path(__file__).with_name("tables.sql").read_text(encoding="utf-8").split(";"):
        connection.execute(statement)


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    statement = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY name"
    return connection.execute(statement).fetchall()


class Owners:
    """The processes that compute features into one store."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        # Held while owners register and are examined: none is taken for dead before it holds its lock.
        self._registry = FileLock(directory / "registry.lock")
        self._mutex = threading.Lock()
        self._own: FileLock | None = None
        self._name = ""

    @property
    def own(self) -> str:
        """The name of this process, registered on first access."""
        with self._mutex:
            if self._own is None:
                with self._registry:
                    self._name = uuid.uuid4().hex
                    self._own = self._lock(self._name)
                    self._own.acquire()
            return self._name

    def dead(self, names: set[str]) -> set[str]:
        """Returns those of `names` whose process has ended."""
        others = names - {self._name} if self._own else names
        with self._registry:
            return {name for name in others if self._has_ended(name)}

    def _has_ended(self, name: str) -> bool:
        if not self._path(name).exists():
            return True
        lock = self._lock(name)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        self._path(name).unlink(missing_ok=True)
        lock.release()
        return True

    def close(self) -> None:
        """Unregisters this process."""
        with self._mutex:
            if self._own is not None:
                self._path(self._name).unlink(missing_ok=True)
                self._own.release()
                self._own = None

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.owner"

    def _lock(self, name: str) -> FileLock:
        return FileLock(self._path(name), is_singleton=False, thread_local=False)

"""The index of the feature store, in SQLite: where each photo's features lie, and who is computing what.

Everything here can be made again from the segments, so commits do not wait for the disk; a killed process leaves
the last committed state.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dogbreeds.errors import CacheError

_VERSION = 1
_BUSY_SECONDS = 60.0
# SQLite's limit on parameters of one statement is 999 in its older versions.
_PARAMETERS = 900

# AUTOINCREMENT: a number that was given once must never come to mean another array or file.
_TABLES = """
CREATE TABLE arrays (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, layout TEXT NOT NULL, UNIQUE (key, layout)
);
CREATE TABLE segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT, array INTEGER NOT NULL, file TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
    used REAL NOT NULL
);
CREATE TABLE rows (
    array INTEGER NOT NULL, photo BLOB NOT NULL, segment INTEGER NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (array, photo)
) WITHOUT ROWID;
CREATE INDEX rows_of_segment ON rows (segment);
CREATE TABLE claims (
    array INTEGER NOT NULL, photo BLOB NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (array, photo)
) WITHOUT ROWID;
CREATE TABLE files (path BLOB PRIMARY KEY, state TEXT NOT NULL, photo BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE unreadable (photo BLOB PRIMARY KEY, decoder TEXT NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
"""

# What says that the file is no sound index, and not that it is locked, out of reach or without room.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA)
_PRIMARY_CODE = 0xFF


class NewerIndexError(Exception):
    """A newer version of the project wrote the index."""


class DamagedIndexError(CacheError):
    """The file is no index, or a damaged one."""

    def __init__(self, reason: str) -> None:
        """Says what to do where it is noticed in the middle of a run."""
        super().__init__(f"The index of the feature store is damaged ({reason}): start again, and it is made anew.")
        self.reason = reason


class Index:
    """One connection to the index, shared by the threads of a process."""

    def __init__(self, path: Path, fill: Callable[[Index], None]) -> None:
        """Opens an index, or makes a new one.

        Args:
            path: Its file.
            fill: Puts into a new index what the segments say; the index appears together with that.

        Raises:
            DamagedIndexError: The file is damaged.
            NewerIndexError: This version cannot read it.
            OSError: It cannot be opened.
        """
        self._lock = threading.RLock()
        with _translated():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with _translated():
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
        if execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise DamagedIndexError("the database disk image is malformed")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise NewerIndexError
        if version == 0:
            with self.transaction():
                _create(self._connection)
                fill(self)
                execute(f"PRAGMA user_version = {_VERSION}")
        elif _schema(self._connection) != _expected_schema():
            raise DamagedIndexError("its tables are not those that they should be")
        else:
            # A place that cannot be written shows itself here, and not after a long pass.
            execute(f"PRAGMA user_version = {_VERSION}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Makes what is done inside appear at once, or not at all.

        Raises:
            OSError: The disk is full, or the index stays locked.
        """
        with self._lock, _translated():
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
        """Runs one statement and returns all rows of its answer."""
        with self._lock, _translated():
            return self._connection.execute(statement, parameters).fetchall()

    def query_many(self, statement: str, keys: Sequence[object], *parameters: object) -> Iterator[tuple[Any, ...]]:
        """Runs a statement that ends in `IN ({keys})` for any number of keys."""
        for start in range(0, len(keys), _PARAMETERS):
            part = keys[start : start + _PARAMETERS]
            yield from self.query(statement.format(keys=", ".join("?" * len(part))), *parameters, *part)

    def execute_many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Runs one statement for many rows of parameters."""
        with self._lock, _translated():
            self._connection.executemany(statement, rows)

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._connection.close()


class UnavailableIndexError(CacheError, OSError):
    """The index is locked, out of reach, or its disk is full."""


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Errors of SQLite as what they mean to callers: damage, or a place that cannot be used now."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError) or not hasattr(error, "sqlite_errorcode"):
            raise
        if error.sqlite_errorcode & _PRIMARY_CODE in _DAMAGE:
            raise DamagedIndexError(str(error)) from error
        raise UnavailableIndexError(f"the index of the feature store (cache.dir) cannot be used: {error}") from error


def _create(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        connection.execute(statement)


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    statement = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY name"
    return connection.execute(statement).fetchall()


def _expected_schema() -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        _create(connection)
        return _schema(connection)

"""Changes of the index appear at once or not at all, and opening it reads no more than its schema."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dogbreeds.features.store.index import Index, NewerIndexError

INSERT = "INSERT INTO claims VALUES (1, ?, 'owner')"
SELECT = "SELECT photo FROM claims ORDER BY photo"


def nothing(index: Index) -> None:
    """A store without segments."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite"


@pytest.fixture
def index(path: Path) -> Iterator[Index]:
    index = Index(path, nothing)
    yield index
    index.close()


@pytest.fixture
def other(path: Path, index: Index) -> Iterator[Index]:
    other = Index(path, nothing)
    yield other
    other.close()


def test_transaction_appears_at_once(index: Index, other: Index) -> None:
    with index.transaction():
        index.execute_many(INSERT, [(b"a",)])
        index.execute_many(INSERT, [(b"b",)])
        assert other.query(SELECT) == []
        assert index.query(SELECT) == [(b"a",), (b"b",)]
    assert other.query(SELECT) == [(b"a",), (b"b",)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failed_transaction_leaves_nothing(index: Index, other: Index, error: type[BaseException]) -> None:
    with pytest.raises(error), index.transaction():
        index.execute_many(INSERT, [(b"a",)])
        raise error
    assert index.query(SELECT) == other.query(SELECT) == []
    with index.transaction():
        index.execute_many(INSERT, [(b"b",)])
    assert other.query(SELECT) == [(b"b",)]


def test_any_number_of_keys(index: Index) -> None:
    photos = [number.to_bytes(4, "big") for number in range(2000)]
    with index.transaction():
        index.execute_many(INSERT, [(photo,) for photo in photos])
    statement = "SELECT photo FROM claims WHERE owner = ? AND photo IN ({keys})"
    assert {row[0] for row in index.query_many(statement, photos, "owner")} == set(photos)
    assert list(index.query_many(statement, photos, "nobody")) == []
    assert list(index.query_many(statement, [], "owner")) == []


def test_index_outlives_its_connection(path: Path) -> None:
    for photo in (b"a", b"b"):
        index = Index(path, nothing)
        index.execute_many(INSERT, [(photo,)])
        index.close()
    index = Index(path, nothing)
    assert index.query(SELECT) == [(b"a",), (b"b",)]
    index.close()


def test_newer_index_is_refused_and_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(NewerIndexError):
        Index(path, nothing)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == []
    connection.close()


def test_opening_does_not_grow_with_what_was_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the steps of SQLite's virtual machine, as time says little on a busy machine."""
    steps = [0]

    class Counted(sqlite3.Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.set_progress_handler(self.count, 1)

        def count(self) -> int:
            steps[-1] += 1
            return 0

    for count in (10, 10_000):
        index = Index(tmp_path / f"{count}", nothing)
        with index.transaction():
            index.execute_many(INSERT, [(number.to_bytes(32, "big"),) for number in range(count)])
        index.close()
    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Counted))
    for count in (10, 10_000):
        steps.append(0)
        Index(tmp_path / f"{count}", nothing).close()
    assert steps[-1] == steps[-2] > 0

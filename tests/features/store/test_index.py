"""Changes of the index appear at once or not at all, and a damaged index is noticed when it is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dogbreeds.features.store.index import DamagedIndexError, Index, NewerIndexError

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


@pytest.mark.parametrize("damage", ["garbage", "half", "page"])
def test_damaged_index_is_not_opened(path: Path, damage: str) -> None:
    index = Index(path, nothing)
    with index.transaction():
        index.execute_many(INSERT, [(number.to_bytes(32, "big"),) for number in range(500)])
    index.close()
    content = path.read_bytes()
    if damage == "page":
        root = content.rindex((250).to_bytes(32, "big")) // 4096 * 4096
        path.write_bytes(content[:root] + b"\xa5" * 4096 + content[root + 4096 :])
    else:
        path.write_bytes(b"garbage " * 1000 if damage == "garbage" else content[: len(content) // 2])
    with pytest.raises(DamagedIndexError):
        Index(path, nothing)

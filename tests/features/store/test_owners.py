"""A process is taken for dead exactly when it has ended."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import pytest
from filelock import FileLock

from dogbreeds.features.store.index import Owners
from tests.features.store.filling import CONTEXT, PATIENCE, claim_and_hang, digests, own_and_fork, started


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "store" / "owners"


@pytest.fixture
def one(directory: Path) -> Iterator[Owners]:
    owners = Owners(directory)
    yield owners
    owners.close()


@pytest.fixture
def other(directory: Path) -> Iterator[Owners]:
    owners = Owners(directory)
    yield owners
    owners.close()


def files(directory: Path) -> set[str]:
    return {path.stem for path in directory.glob("*.owner")}


def test_name_stays_and_belongs_to_one(one: Owners, other: Owners, directory: Path) -> None:
    assert files(directory) == set()
    assert one.own == one.own != other.own
    assert files(directory) == {one.own, other.own}


def test_living_owners_are_not_dead(one: Owners, other: Owners) -> None:
    names = {one.own, other.own}
    assert one.dead(names) == other.dead(names) == set()
    assert one.dead({*names, "0" * 32}) == {"0" * 32}


def test_closed_owner_is_dead(one: Owners, other: Owners, directory: Path) -> None:
    name = one.own
    one.close()
    one.close()
    assert other.dead({name}) == {name}
    assert files(directory) == set()
    assert one.own != name
    assert other.dead({name, one.own}) == {name}


def test_who_never_computed_has_nothing_to_close(one: Owners, directory: Path) -> None:
    one.close()
    assert one.dead(set()) == set()
    assert files(directory) == set()


def test_owner_without_a_name_is_dead_for_everybody(one: Owners, other: Owners) -> None:
    assert one.own
    assert one.dead({""}) == {""}
    assert other.dead({""}) == {""}


def test_killed_owner_is_dead(one: Owners, directory: Path) -> None:
    receiver, sender = CONTEXT.Pipe(duplex=False)
    with started(claim_and_hang, directory.parent, digests(1), sender) as process:
        assert receiver.poll(PATIENCE)
        name, _ = receiver.recv()
        assert one.dead({name}) == set()
        process.kill()
        process.join(PATIENCE)
        assert files(directory) == {name}
        assert one.dead({name}) == one.dead({name}) == {name}
    assert files(directory) == set()


def test_owner_that_is_just_coming_is_not_dead(one: Owners, other: Owners, monkeypatch: pytest.MonkeyPatch) -> None:
    make, coming, examined = one._lock, Queue[str](), threading.Event()

    def slow_lock(name: str) -> FileLock:
        # The file is there before it is locked. Whoever examines it meanwhile has to wait.
        one._path(name).touch()
        coming.put(name)
        examined.wait(0.1)
        return make(name)

    monkeypatch.setattr(one, "_lock", slow_lock)
    with ThreadPoolExecutor(1) as pool:
        name = pool.submit(lambda: one.own)
        assert other.dead({coming.get(timeout=PATIENCE)}) == set()
        examined.set()
        assert other.dead({name.result(PATIENCE)}) == set()


def test_threads_share_a_name(one: Owners, directory: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = {future.result(PATIENCE) for future in [pool.submit(lambda: one.own) for _ in range(8)]}
    assert names == {one.own} == files(directory)


def test_killed_owner_is_dead_while_a_process_that_it_started_lives(one: Owners, directory: Path) -> None:
    receiver, sender = CONTEXT.Pipe(duplex=False)
    with started(own_and_fork, directory, sender) as process:
        assert receiver.poll(PATIENCE)
        name, child = receiver.recv()
        try:
            assert one.dead({name}) == set()
            process.kill()
            process.join(PATIENCE)
            os.kill(child, 0)
            assert one.dead({name}) == {name}
        finally:
            os.kill(child, signal.SIGKILL)

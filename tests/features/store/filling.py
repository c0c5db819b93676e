"""What the tests of the store fill it with, and the processes that do: features are a function of digest and key."""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from dogbreeds.errors import CacheError
from dogbreeds.features.store import store as store_module
from dogbreeds.features.store.array import FeatureArray
from dogbreeds.features.store.index import Owners
from dogbreeds.features.store.segments import ArrayKey, Layout, SegmentWriter
from dogbreeds.features.store.store import FeatureStore

OpenStore = Callable[..., FeatureStore]
#: Seconds after which something that takes milliseconds counts as hung.
PATIENCE = 120.0
BATCH = 4
KEY = ArrayKey("squeezenet1_1", "5" * 64, "resize 36, crop 32", "torch fp32", "evaluation")
FLAT = Layout((5,), "float32")

# Torch takes seconds to import: once in the server, and not at all in the processes that it forks.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pytest", "dogbreeds.features.store.store"])


def digests(count: int, first: int = 0) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(first, first + count)]


def features(photos: Sequence[str], layout: Layout = FLAT, key: ArrayKey = KEY) -> np.ndarray:
    """Values that float16 holds exactly."""
    values = np.empty((len(photos), *layout.shape), layout.kind)
    for place, photo in enumerate(photos):
        digest = hashlib.sha256(f"{photo}{key}".encode()).digest()
        values[place] = np.resize(np.frombuffer(digest, np.uint8) / 8 - 16, layout.shape)
    return values


def expected(array: FeatureArray, photos: Sequence[str]) -> Tensor:
    return torch.from_numpy(features(photos, array.layout, array.key)).float()


def publish(array: FeatureArray, photos: Sequence[str]) -> None:
    """Fills in photos that nobody has or computes, if any."""
    assert array.claim(photos) == (list(photos), [])
    if photos:
        array.publish(photos, features(photos, array.layout, array.key))


def served(array: FeatureArray, photos: Sequence[str]) -> Tensor:
    rows = array.read(photos)
    assert rows is not None
    return rows.tensor()


def is_served(array: FeatureArray, photos: Sequence[str]) -> bool:
    return array.missing(photos) == [] and torch.equal(served(array, photos), expected(array, photos))


def ruin_index(directory: Path) -> None:
    """Damages the index of a store that nobody has open, with all that could repair it."""
    for path in directory.glob("index.sqlite-*"):
        path.unlink()
    (directory / "index.sqlite").write_bytes(b"garbage " * 1000)


def only_segment(store: FeatureStore) -> Path:
    (path,) = (store.directory / "segments").iterdir()
    return path


@contextmanager
def started(target: Callable[..., None], *arguments: object) -> Iterator[BaseProcess]:
    """Runs a function in a process, which does not outlive the block."""
    process = CONTEXT.Process(target=target, args=arguments, daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join(PATIENCE)
        process.close()


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "what the test waits for does not happen"
        time.sleep(0.0005)


def logged(log: Path) -> list[list[str]]:
    """The batches that a process has computed; it may have died while it wrote the last line."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [line.split() for line in lines]


def fill(directory: Path, photos: Sequence[str], log: Path, pause: float, barrier: Barrier | None = None) -> None:
    """Completes an array, in a process of its own.

    Args:
        directory: Place of the store.
        photos: What the array shall hold.
        log: Gets a line of digests when a batch has been computed, before it is published.
        pause: Seconds that each batch takes to compute, and again between its features and its commit.
        barrier: Where processes wait for each other before they start and after their first batch.
    """
    append = SegmentWriter.append

    def slow_append(writer: SegmentWriter, photos: Sequence[bytes], values: np.ndarray) -> int:
        first = append(writer, photos, values)
        time.sleep(pause)
        return first

    SegmentWriter.append = slow_append
    limit = time.monotonic() + PATIENCE
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with FeatureStore(directory, 1e9) as store:
        array = store.array(KEY, FLAT)
        if barrier:
            barrier.wait(PATIENCE)
        while remaining := array.missing(photos):
            assert time.monotonic() < limit, "the photos of another process stay busy"
            array.release_dead()
            for start in range(0, len(remaining), BATCH):
                mine, _ = array.claim(remaining[start : start + BATCH])
                if not mine:
                    continue
                values = features(mine)
                time.sleep(pause)
                os.write(file, f"{' '.join(mine)}\n".encode())
                array.publish(mine, values)
                if barrier:
                    barrier.wait(PATIENCE)
                    barrier = None
            time.sleep(0.001)
    os.close(file)


def claim_and_hang(directory: Path, photos: Sequence[str], ready: Connection) -> None:
    """Claims photos and never computes them."""
    store = FeatureStore(directory, 1e9)
    claimed = store.array(KEY, FLAT).claim(photos)
    ready.send((store._owners.own, claimed))
    time.sleep(PATIENCE)


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("not reached")


def publish_and_die(directory: Path, photos: Sequence[str], moment: str, whole: int) -> None:
    """Publishes batches, of which as many are whole as it says, and is killed at a moment of the next."""
    write, append, end_claims = SegmentWriter._write, SegmentWriter.append, FeatureArray._end_claims

    def torn_write(writer: SegmentWriter, content: bytes) -> None:
        write(writer, content[: len(content) // 2])
        die()

    def last_append(writer: SegmentWriter, photos: Sequence[bytes], values: np.ndarray) -> int:
        append(writer, photos, values)
        die()

    def last_end_claims(array: FeatureArray, photos: Sequence[bytes]) -> None:
        end_claims(array, photos)
        die()

    store = FeatureStore(directory, 1e9)
    array = store.array(KEY, FLAT)
    for start in range(0, len(photos), BATCH):
        batch = photos[start : start + BATCH]
        if start == whole * BATCH:
            if moment == "claimed":
                array.claim(batch)
                die()
            elif moment == "before the write":
                SegmentWriter._write = die
            elif moment == "during the write":
                SegmentWriter._write = torn_write
            elif moment == "before the commit":
                SegmentWriter.append = last_append
            elif moment == "during the commit":
                FeatureArray._end_claims = last_end_claims
        publish(array, batch)
        if start == whole * BATCH and moment == "published":
            die()


def rebuild_and_die(directory: Path, files: int) -> None:
    """Opens a store whose index is damaged, and is killed when it has taken in some files."""
    header = store_module.read_header
    taken: list[Path] = []

    def counted(path: Path) -> tuple[ArrayKey, Layout] | None:
        if len(taken) == files:
            die()
        taken.append(path)
        return header(path)

    store_module.read_header = counted
    FeatureStore(directory, 1e9)


def open_and_die(directory: Path, statements: int) -> None:
    """Opens a store and is killed when its index has run some statements."""

    class Connection(sqlite3.Connection):
        made = 0

        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            if self.made == statements:
                die()
            self.made += 1
            return super().execute(*arguments)

    connect = sqlite3.connect
    sqlite3.connect = functools.partial(connect, factory=Connection)
    FeatureStore(directory, 1e9)


def open_as_nobody(directory: Path, answer: Connection) -> None:
    """Says how a process fares that may not write everywhere."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        FeatureStore(directory, 1e9)
        answer.send("opened")
    except CacheError as error:
        answer.send(str(error))


def own_and_fork(directory: Path, ready: Connection) -> None:
    """Becomes an owner, and starts a process that outlives it."""
    owners = Owners(directory)
    name = owners.own
    child = os.fork()
    if child:
        ready.send((name, child))
    time.sleep(PATIENCE)
    os._exit(0)

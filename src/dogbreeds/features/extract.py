"""The one pass of the trunk over the photos: what the store lacks is read, computed and published."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from dogbreeds.data.images import Transform, UnreadableImageError
from dogbreeds.data.views import read_view
from dogbreeds.errors import CacheError, DataError
from dogbreeds.features.engines.engine import Engine
from dogbreeds.features.store.array import FeatureArray

log = logging.getLogger(__name__)

Progress = Callable[[int], None]

# How often a process looks for what another one has finished.
_POLL_SECONDS = 0.1


@dataclass
class Pass:
    """What one pass did.

    Attributes:
        computed: Photos that went through the trunk in this process.
        unreadable: Digests of files that are no images, with the reason.
    """

    computed: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


class _Work:
    """The photos that are still to be computed, shared by the lanes of a pass."""

    def __init__(self, photos: Sequence[str], array: FeatureArray, batch_size: int) -> None:
        self._todo, self._busy = deque(photos), deque[str]()
        self._array, self._batch_size = array, batch_size
        self._mutex = threading.Lock()
        self.stopped = threading.Event()

    def take(self) -> list[str] | None:
        """Claims a batch; waits for other processes where only theirs are left; None when nothing is."""
        while not self.stopped.is_set():
            with self._mutex:
                batch = [self._todo.popleft() for _ in range(min(self._batch_size, len(self._todo)))]
                if not batch:
                    if not self._busy:
                        return None
                    self._todo, self._busy = self._busy, self._todo
            if not batch:
                time.sleep(_POLL_SECONDS)
                self._array.release_dead()
                continue
            mine, busy = self._array.claim(batch)
            with self._mutex:
                self._busy.extend(busy)
            if mine:
                return mine
        return None


def fill(
    array: FeatureArray,
    files: Mapping[str, Path],
    engine: Engine,
    transform: Transform,
    view: int,
    progress: Progress,
) -> Pass:
    """Computes the features that an array lacks.

    Each lane reads a batch, runs it and publishes it, so reading overlaps with computing, and whatever ends the
    pass, all published batches stay. Several processes may fill the same array; each photo is computed by one.

    Args:
        array: Where the features go.
        files: The photos' digests, each with a file that holds its bytes.
        engine: Runs the trunk.
        transform: The backbone's evaluation transform.
        view: 0, or the number of an augmented view.
        progress: Called with the number of photos that were finished.

    Raises:
        DataError: A file is gone, or has changed since it was indexed.
        CacheError: The store's disk is full.
    """
    done = Pass()
    work = _Work(array.missing(list(files)), array, engine.batch_size)
    finished = threading.Lock()

    def lane() -> None:
        try:
            compute_all()
        except OSError as error:
            raise CacheError(f"Features cannot be stored: {error}. What was computed before is kept.") from error

    def compute_all() -> None:
        while batch := work.take():
            try:
                features, unreadable = _compute(batch, files, engine, transform, view)
                readable = [photo for photo in batch if photo not in unreadable]
                if readable:
                    _publish(array, readable, features)
            finally:
                # Ends the claims of unreadable photos, and of all after an error.
                array.release(batch)
            with finished:
                done.computed += len(readable)
                done.unreadable |= unreadable
                progress(len(batch))

    try:
        if engine.lanes == 1:
            # No thread, so that a breakpoint in what runs here stops at a prompt.
            lane()
        else:
            _in_threads(lane, engine.lanes, work)
    finally:
        array.close()
    return done


def _in_threads(lane: Callable[[], None], count: int, work: _Work) -> None:
    with ThreadPoolExecutor(count) as pool:
        lanes = [pool.submit(lane) for _ in range(count)]
        try:
            wait(lanes, return_when=FIRST_EXCEPTION)
        finally:
            work.stopped.set()
    for ended in lanes:
        ended.result()


def _compute(
    batch: Sequence[str], files: Mapping[str, Path], engine: Engine, transform: Transform, view: int
) -> tuple[Tensor, dict[str, str]]:
    contents = [_read(files[photo], photo) for photo in batch]
    read = read_view(contents, batch, view, transform) if view else engine.read(contents, transform)
    unreadable = {
        photo: str(image) for photo, image in zip(batch, read, strict=True) if isinstance(image, UnreadableImageError)
    }
    images = [image for image in read if isinstance(image, Tensor)]
    if not images:
        return torch.empty(0), unreadable
    return engine(torch.stack(images)), unreadable


def _read(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"A photo cannot be read any more: {error}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(f"{path} has changed since this run began: start it again.")
    return content


def _publish(array: FeatureArray, photos: Sequence[str], features: Tensor) -> None:
    if not torch.isfinite(features).all():
        raise DataError(
            f"The trunk {array.key.trunk} gives values that {array.layout.kind} cannot hold "
            f"({array.key.engine}): try features.precision=fp32, or another stage for model.unfreeze."
        )
    array.publish(photos, features.numpy())

"""The one pass of the trunk over the photos: features that the store lacks are computed and published.

And how fast it is on this machine.
"""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dogbreeds.data.images import UnreadableImageError
from dogbreeds.data.transform import Transform, read_all
from dogbreeds.data.views import read_view
from dogbreeds.errors import CacheError, DataError
from dogbreeds.features.engines import Engine
from dogbreeds.features.store.array import FeatureArray

Progress = Callable[[int], None]
#: The features (N, *shape) of the readable photos, in order, and why the others, by digest, are not images.
Extracted = tuple[np.ndarray, dict[str, str]]

# How often a process checks what another one has finished.
_POLL_SECONDS = 0.1
# Shorter measurements follow the scheduler rather than the trunk.
_MIN_SECONDS = 1.0


@dataclass
class Pass:
    """What one pass did: photos computed by this process, and why others, by digest, are not images."""

    computed: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


class Extractor(Protocol):
    """Photos in, features out; it is fastest with `workers` threads that give it `batch_size` photos per call."""

    batch_size: int
    workers: int

    def __call__(self, files: Mapping[str, Path], view: int) -> Extracted:
        """Takes digests, each with a file that holds its bytes."""


class LocalExtractor:
    """Reads photos and runs an engine in this process."""

    def __init__(self, engine: Engine, transform: Transform) -> None:
        self.batch_size, self.workers = engine.batch_size, engine.workers
        self._engine, self._transform = engine, transform

    def __call__(self, files: Mapping[str, Path], view: int) -> Extracted:
        contents = [read_photo(path, digest) for digest, path in files.items()]
        read = read_view(contents, list(files), view, self._transform) if view else read_all(contents, self._transform)
        unreadable = {
            digest: str(image)
            for digest, image in zip(files, read, strict=True)
            if isinstance(image, UnreadableImageError)
        }
        images = [image for image in read if isinstance(image, Tensor)]
        return self._engine(torch.stack(images)).numpy() if images else np.empty(0), unreadable


class _Work:
    """The photos that are still to be computed, shared by the workers of a pass."""

    def __init__(self, digests: Sequence[str], array: FeatureArray, batch_size: int) -> None:
        self._todo, self._busy = deque(digests), deque[str]()
        self._array, self._batch_size = array, batch_size
        self._mutex = threading.Lock()
        self.stopped = threading.Event()

    def take(self) -> list[str] | None:
        """Claims a batch, waiting for other processes where only theirs are left; None when none is left."""
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


def fill(array: FeatureArray, files: Mapping[str, Path], extractor: Extractor, view: int, progress: Progress) -> Pass:
    """Computes the features that an array lacks.

    Each worker has a batch read and computed and publishes it, so these overlap, and whatever ends the pass, all
    published batches stay. Several processes may fill the same array; each photo is computed by one.

    Args:
        files: The digests of the photos, each with a file that holds its bytes.
        view: 0 for evaluation, or the number of an augmentation.
        progress: Called with the number of photos just finished.

    Raises:
        DataError: A file is gone, or has changed since the run began.
        CacheError: The store's disk is full.
    """
    done = Pass()
    work = _Work(array.missing(list(files)), array, extractor.batch_size)
    finished = threading.Lock()

    def worker() -> None:
        while batch := work.take():
            try:
                features, unreadable = extractor({digest: files[digest] for digest in batch}, view)
                readable = [digest for digest in batch if digest not in unreadable]
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
        if extractor.workers == 1:
            # No thread, so that a breakpoint stops at a prompt.
            worker()
        else:
            _in_threads(worker, extractor.workers, work)
    except OSError as error:
        raise CacheError(f"Features cannot be stored: {error}. Those computed before are kept.") from error
    finally:
        array.close()
    return done


def _in_threads(worker: Callable[[], None], count: int, work: _Work) -> None:
    def work_on() -> None:
        try:
            worker()
        except BaseException:
            # At once: the thread that waits for all may not get its turn before they take more.
            work.stopped.set()
            raise

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(work_on) for _ in range(count)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            work.stopped.set()
    for future in futures:
        future.result()


def read_photo(path: Path, digest: str) -> bytes:
    """Returns the bytes of a photo; raises a DataError where they are gone, or are others than before."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"A photo can no longer be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(f"{path} has changed since this run began. Run the same command again.")
    return content


def _publish(array: FeatureArray, digests: Sequence[str], features: np.ndarray) -> None:
    if not np.isfinite(features).all():
        said = f"The trunk {array.key.trunk} gives values that {array.layout.kind} cannot hold ({array.key.engine})."
        raise DataError(f"{said} Try features.precision=fp32, or another stage for model.unfreeze.")
    array.publish(digests, features)


def photos_per_second(engine: Engine, transform: Transform, photos: Sequence[Path]) -> float:
    """Returns the rate at which photos become features, decoding included, once the engine is warm.

    The photos, which must be readable, are passed over again until a second is over.
    """
    contents = [path.read_bytes() for path in photos]
    batches = [contents[start : start + engine.batch_size] for start in range(0, len(contents), engine.batch_size)]

    def compute(batch: Sequence[bytes]) -> Tensor:
        return engine(torch.stack([image for image in read_all(batch, transform) if isinstance(image, Tensor)]))

    with ThreadPoolExecutor(engine.workers) as pool:
        # The first passes of all threads allocate memory and choose kernels.
        list(pool.map(compute, batches[:1] * engine.workers))
        began, done = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < _MIN_SECONDS:
            list(pool.map(compute, batches))
            done += len(contents)
        return done / passed

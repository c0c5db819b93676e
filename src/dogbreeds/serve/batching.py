"""A bounded queue of photos in front of the worker threads of an engine.

There are no timers: a free worker takes what waits, up to a batch. An idle server adds no delay, and a busy one fills
its batches.
"""

import asyncio
import functools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import torch

from dogbreeds.data.images import UnreadableImageError
from dogbreeds.package.messages import Answer, HttpError
from dogbreeds.package.predictor import Predictor

log = logging.getLogger(__name__)

#: The answer for a photo, or why it cannot be read.
Found = Answer | UnreadableImageError

# Weight of the newest batch in the moving average of the speed.
_NEWEST = 0.1
_MAX_RETRY_SECONDS = 60
# Photos that a worker takes at once where the engine computes them one by one, to share the overhead of a batch.
_AT_ONCE = 8


class _Pending:
    """The photos of one request, and what has been found for them so far."""

    def __init__(self, photos: Sequence[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self.photos = photos
        self.found: list[Found | HttpError | None] = [None] * len(photos)
        self.missing = len(photos)
        self.future: asyncio.Future[list[Found]] = loop.create_future()

    def settle(self) -> None:
        """Resolves the future, in the thread of the event loop."""
        if self.future.done():
            # The client is gone, or another photo of the request has failed.
            return
        if failures := [found for found in self.found if isinstance(found, HttpError)]:
            self.future.set_exception(failures[0])
        else:
            self.future.set_result([found for found in self.found if isinstance(found, Found)])


class Batcher:
    """Starts the engine of a predictor, and computes the photos of requests with it."""

    def __init__(self, predictor: Predictor, max_waiting: int, timeout: float, on_batch: Callable[[int], None]) -> None:
        """Starts nothing yet.

        Args:
            max_waiting: Photos in the queue; a request that does not fit is refused as a whole.
            timeout: Seconds after which a batch means that its worker is stuck.
            on_batch: Called with the size of each batch, in the thread that computed it.
        """
        self._predictor, self._max_waiting, self._timeout, self._on_batch = predictor, max_waiting, timeout, on_batch
        self._queue: deque[tuple[_Pending, int]] = deque()
        # Guards all that follows.
        self._changed = threading.Condition()
        self._unavailable: tuple[int, str, str] | None = (503, "loading", "The model is being loaded.")
        self._closed = False
        self._one_by_one = False
        self._batch_size = self._workers = 1
        self._began: dict[int, float] = {}
        self._photos_per_second = 0.0
        self._threads: list[threading.Thread] = []

    def start(self) -> threading.Thread:
        """Begins to start the engine; the returned thread ends when it runs, or has failed as `unavailable` says."""
        return self._spawn(self._start, "engine")

    def close(self) -> None:
        """Refuses new requests, and waits until the workers have finished what they took, or until the timeout."""
        with self._changed:
            self._closed = True
            self._unavailable = self._unavailable or (503, "draining", "The server is stopping.")
            self._changed.notify_all()
        for thread in list(self._threads):
            thread.join(self._timeout)

    @property
    def unavailable(self) -> HttpError | None:
        """Why no request is taken: the engine is starting or did not start, or a worker is stuck. None when ready."""
        with self._changed:
            if self._unavailable is not None:
                return HttpError(*self._unavailable)
            oldest = min(self._began.values(), default=None)
        if oldest is not None and time.monotonic() - oldest > self._timeout:
            return HttpError(500, "dead", f"A batch has taken more than {self._timeout:g} seconds.")
        return None

    @property
    def waiting(self) -> int:
        """Photos in the queue."""
        return len(self._queue)

    @property
    def busy(self) -> int:
        return len(self._began)

    @property
    def retry_after(self) -> int:
        """Whole seconds until the queue is empty, at the speed so far."""
        if not self._photos_per_second:
            return 1
        return min(_MAX_RETRY_SECONDS, max(1, math.ceil(len(self._queue) / self._photos_per_second)))

    def submit(self, photos: Sequence[bytes]) -> asyncio.Future[list[Found]]:
        """Queues photos, from the thread of an event loop.

        Returns:
            What was found for each photo. A caller that has waited long enough cancels the future, and photos that no
            worker has taken are not computed. It fails with `HttpError` 500 when the engine fails.

        Raises:
            HttpError: 503 when the photos do not fit into the queue, or the error of `unavailable`.
        """
        if (error := self.unavailable) is not None:
            raise error
        pending = _Pending(photos, asyncio.get_running_loop())
        with self._changed:
            if len(self._queue) + len(photos) > self._max_waiting:
                raise HttpError(503, "busy", f"The queue is full ({len(self._queue)} photos): try again later.")
            self._queue.extend((pending, position) for position in range(len(photos)))
            self._changed.notify(len(photos))
        pending.future.add_done_callback(lambda _: self._forget(pending))
        return pending.future

    def _start(self) -> None:
        try:
            engine = self._predictor.engine
            if engine.name != "torch":
                # The workers are the threads. Plain torch computes one batch at a time, with all cores.
                torch.set_num_threads(1)
            self._predictor.warm_up()
        except Exception:
            log.exception("The engine did not start.")
            with self._changed:
                self._unavailable = (500, "dead", "The model could not be loaded.")
            return
        with self._changed:
            if self._closed:
                return
            self._one_by_one = engine.batch_size == 1
            self._batch_size = _AT_ONCE if self._one_by_one else engine.batch_size
            # One worker more than the engine has streams decodes while the others wait for theirs.
            self._workers = engine.workers + self._one_by_one
            self._unavailable = None
        for number in range(self._workers):
            self._spawn(functools.partial(self._work, number), f"worker-{number}")

    def _spawn(self, target: Callable[[], None], name: str) -> threading.Thread:
        # A stuck worker must not keep a server from ending.
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _work(self, number: int) -> None:
        while batch := self._take(number):
            began = time.monotonic()
            found: Sequence[Found | HttpError]
            try:
                found = self._predictor.predict_each([pending.photos[position] for pending, position in batch])
            except Exception:
                log.exception("A batch of %d photos failed.", len(batch))
                found = [HttpError(500, "failed", "The prediction failed; see the server's log.")] * len(batch)
            self._on_batch(len(batch))
            self._settle(number, batch, found, time.monotonic() - began)

    def _take(self, number: int) -> list[tuple[_Pending, int]]:
        """Waits for photos, and returns the next batch; an empty one when the server stops."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            # Where photos need not be together, idle workers get their share.
            sharing = self._workers - len(self._began) if self._one_by_one else 1
            size = min(self._batch_size, math.ceil(len(self._queue) / sharing))
            batch = [self._queue.popleft() for _ in range(size)]
            if batch:
                self._began[number] = time.monotonic()
            return batch

    def _settle(
        self, number: int, batch: Sequence[tuple[_Pending, int]], found: Sequence[Found | HttpError], seconds: float
    ) -> None:
        done = set()
        with self._changed:
            speed = len(batch) * len(self._began) / seconds if seconds else 0.0
            before = self._photos_per_second or speed
            self._photos_per_second = before + _NEWEST * (speed - before)
            del self._began[number]
            for (pending, position), one in zip(batch, found, strict=True):
                pending.found[position] = one
                pending.missing -= 1
                if isinstance(one, HttpError) or not pending.missing:
                    done.add(pending)
        for pending in done:
            pending.future.get_loop().call_soon_threadsafe(pending.settle)

    def _forget(self, pending: _Pending) -> None:
        """Drops queued photos that nobody waits for any more."""
        with self._changed:
            if pending.missing:
                self._queue = deque(entry for entry in self._queue if entry[0] is not pending)

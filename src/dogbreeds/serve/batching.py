"""A bounded queue of photos in front of the lanes of an engine.

There are no timers: a lane that is free takes what waits, up to a batch. An idle server adds no wait, and a busy one
makes batches by itself.
"""

from __future__ import annotations

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
from dogbreeds.package.messages import Ranked, Refused
from dogbreeds.package.predictor import Handler

log = logging.getLogger(__name__)

Answer = list[Ranked] | UnreadableImageError

# Weight of the newest batch in the measured speed.
_NEWEST = 0.1
_LONGEST_RETRY = 60
# Photos that a lane takes at once where the engine computes them one by one: what they cost beside it is shared.
_AT_ONCE = 8


class _Ticket:
    """The photos of one request, and the answers that are there already."""

    def __init__(self, photos: Sequence[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self.photos = photos
        self.answers: list[Answer | None] = [None] * len(photos)
        self.missing = len(photos)
        self.failure: Refused | None = None
        self.future: asyncio.Future[list[Answer]] = loop.create_future()

    def settle(self) -> None:
        """Tells who waits, in the thread of the event loop."""
        if self.future.done():
            # The client has gone, or another photo of the request failed.
            return
        if self.failure is not None:
            self.future.set_exception(self.failure)
        else:
            self.future.set_result([answer for answer in self.answers if answer is not None])


class Batcher:
    """Starts a handler's engine, and answers requests with it."""

    def __init__(
        self, handler: Handler, *, most_waiting: int, patience: float, on_batch: Callable[[int], object]
    ) -> None:
        """Does not start anything yet.

        Args:
            handler: Answers for photos.
            most_waiting: Photos that wait for a lane; a request that does not fit is refused as a whole.
            patience: Seconds after which a batch in a lane means that the lane is stuck.
            on_batch: Told the number of photos of each batch, by the thread that computed it.
        """
        self._handler, self._most_waiting, self._patience, self._on_batch = handler, most_waiting, patience, on_batch
        self._queue: deque[tuple[_Ticket, int]] = deque()
        # Guards all that follows.
        self._changed = threading.Condition()
        self._condition: Refused | None = Refused(503, "loading", "The model is being loaded.")
        self._closed = False
        self._one_by_one = False
        self._batch_size = self._lanes = 1
        self._began: dict[int, float] = {}
        self._photos_per_second = 0.0
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begins to start the engine, and returns before it runs; `condition` says when it does."""
        self._spawn(self._start, "engine")

    def close(self) -> None:
        """Refuses new requests, and waits until the lanes have done what they took; for none longer than patience."""
        with self._changed:
            self._closed = True
            self._condition = self._condition or Refused(503, "draining", "The server is stopping.")
            self._changed.notify_all()
        for thread in list(self._threads):
            thread.join(self._patience)

    @property
    def condition(self) -> Refused | None:
        """Why nothing can be answered: the engine is starting, did not start, or a lane is stuck; None when ready."""
        with self._changed:
            if self._condition is not None:
                return self._condition
            oldest = min(self._began.values(), default=None)
        if oldest is not None and time.monotonic() - oldest > self._patience:
            return Refused(500, "dead", f"A batch has taken more than {self._patience:g} seconds.")
        return None

    @property
    def waiting(self) -> int:
        """Photos that no lane has taken yet."""
        return len(self._queue)

    @property
    def busy(self) -> int:
        """Lanes that compute."""
        return len(self._began)

    @property
    def retry_after(self) -> int:
        """Whole seconds until what waits will have been answered, at the speed so far."""
        if not self._photos_per_second:
            return 1
        return min(_LONGEST_RETRY, max(1, math.ceil(len(self._queue) / self._photos_per_second)))

    def submit(self, photos: Sequence[bytes]) -> asyncio.Future[list[Answer]]:
        """Puts photos into the queue, from the thread of an event loop.

        Returns:
            What will hold the answers, or why one is none. Whoever has waited long enough cancels it, or gives it an
            exception, and what no lane has begun is not computed. It fails with a `Refused`, status 500, when the
            engine failed.

        Raises:
            Refused: 503 when they do not fit into the queue, and what `condition` says.
        """
        refused = self.condition
        if refused is not None:
            raise refused
        ticket = _Ticket(photos, asyncio.get_running_loop())
        with self._changed:
            if len(self._queue) + len(photos) > self._most_waiting:
                raise Refused(503, "busy", f"{len(self._queue)} photos are waiting: try again later.")
            self._queue.extend((ticket, position) for position in range(len(photos)))
            self._changed.notify(len(photos))
        ticket.future.add_done_callback(lambda _: self._forget(ticket))
        return ticket.future

    def _start(self) -> None:
        try:
            engine = self._handler.engine
            if engine.name != "torch":
                # The lanes are the threads. Plain torch computes in one lane at a time, with all cores.
                torch.set_num_threads(1)
            self._handler.warm_up()
        except Exception:
            log.exception("The engine does not start.")
            with self._changed:
                self._condition = Refused(500, "dead", "The model could not be loaded.")
            return
        with self._changed:
            if self._closed:
                return
            self._one_by_one = engine.batch_size == 1
            self._batch_size = _AT_ONCE if self._one_by_one else engine.batch_size
            # One lane more than the engine has streams decodes while the others wait for theirs.
            self._lanes = engine.workers + self._one_by_one
            self._condition = None
        for number in range(self._lanes):
            self._spawn(functools.partial(self._lane, number), f"lane-{number}")

    def _spawn(self, target: Callable[[], None], name: str) -> None:
        # A stuck lane must not keep a server from ending.
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _lane(self, number: int) -> None:
        while batch := self._take(number):
            began = time.monotonic()
            failure: Refused | None = None
            answers: Sequence[Answer | None] = [None] * len(batch)
            try:
                answers = self._handler.answers([ticket.photos[position] for ticket, position in batch])
            except Exception:
                log.exception("A batch of %d photos failed.", len(batch))
                failure = Refused(500, "failed", "The photos could not be computed; the server's log says why.")
            self._on_batch(len(batch))
            self._give(number, batch, answers, failure, time.monotonic() - began)

    def _take(self, number: int) -> list[tuple[_Ticket, int]]:
        """Waits for photos, and returns those of the next batch; none when the server ends."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            # Where photos need not be together, lanes that are idle get their share.
            share = (
                math.ceil(len(self._queue) / (self._lanes - len(self._began)))
                if self._one_by_one
                else len(self._queue)
            )
            batch = [self._queue.popleft() for _ in range(min(self._batch_size, share))]
            if batch:
                self._began[number] = time.monotonic()
            return batch

    def _give(
        self,
        number: int,
        batch: Sequence[tuple[_Ticket, int]],
        answers: Sequence[Answer | None],
        failure: Refused | None,
        seconds: float,
    ) -> None:
        done = set()
        with self._changed:
            speed = len(batch) * len(self._began) / seconds if seconds else 0.0
            before = self._photos_per_second or speed
            self._photos_per_second = before + _NEWEST * (speed - before)
            del self._began[number]
            for (ticket, position), answer in zip(batch, answers, strict=True):
                ticket.answers[position] = answer
                ticket.missing -= 1
                ticket.failure = ticket.failure or failure
                if ticket.failure is not None or not ticket.missing:
                    done.add(ticket)
        for ticket in done:
            ticket.future.get_loop().call_soon_threadsafe(ticket.settle)

    def _forget(self, ticket: _Ticket) -> None:
        """Takes out of the queue what nobody waits for any more."""
        with self._changed:
            if ticket.missing:
                kept = [entry for entry in self._queue if entry[0] is not ticket]
                self._queue.clear()
                self._queue.extend(kept)

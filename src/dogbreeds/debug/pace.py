"""How often something that costs time is worth doing while a run lasts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Keeps what is done again and again below a share of the run's time, however long it takes."""

    def __init__(self, share: float, seconds: float = 0.0) -> None:
        """Lets it be done at once.

        Args:
            share: Of the time of the run, at most.
            seconds: From one time to the next, at least.
        """
        self._share, self._seconds = share, seconds
        self._next = time.monotonic()

    @property
    def due(self) -> bool:
        """It may be done."""
        return time.monotonic() >= self._next

    @contextmanager
    def doing(self) -> Iterator[None]:
        """Times it."""
        began = time.monotonic()
        yield
        ended = time.monotonic()
        self._next = ended + max(self._seconds, (ended - began) / self._share)

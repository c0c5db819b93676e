"""Limits recurring work to a share of a run's time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Says when work is due that must not take more than a share of the run's time.

    The first time it is due at once, then after so many seconds at least.
    """

    def __init__(self, share: float, seconds: float = 0.0) -> None:
        self._share, self._seconds = share, seconds
        self._next = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._next

    @contextmanager
    def doing(self) -> Iterator[None]:
        """Times the work, and sets when it is due again."""
        began = time.monotonic()
        yield
        ended = time.monotonic()
        self._next = ended + max(self._seconds, (ended - began) / self._share)

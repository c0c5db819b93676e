"""Paired timing: what is compared runs in turns, so that a busy moment of the machine hits all of it."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_HASHED, _REPEATS = 10_000_000, 100


@dataclass(frozen=True)
class Times:
    """Seconds of each round of one contestant."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> str:
        """Smallest and largest, as text."""
        return f"{min(self.seconds):.2f} to {max(self.seconds):.2f}"


def seconds_of(function: Callable[[], object]) -> float:
    """Returns how long one call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def paired(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Times]:
    """Runs each contestant once per round, in turns.

    Args:
        contestants: Functions that return the seconds of what they measure.
        rounds: How often.
    """
    measured: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        # Every other round in reverse, so that none always follows the same neighbour.
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            measured[name].append(contestants[name]())
    return {name: Times(tuple(seconds)) for name, seconds in measured.items()}


def noise() -> float:
    """Returns how much longer than the other one of two runs of the same thing took, a second each, as a ratio."""

    def same() -> float:
        return seconds_of(lambda: [hashlib.sha256(bytes(_HASHED)).digest() for _ in range(_REPEATS)])

    seconds = same(), same()
    return max(seconds) / min(seconds)


def ratio(slow: Times, fast: Times) -> float:
    """Returns the median over rounds of how many times longer `slow` took than `fast` in the same round."""
    return statistics.median(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True))

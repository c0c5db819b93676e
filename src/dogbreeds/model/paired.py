"""Which of two models is better, on the same photos: only those that one of them gets wrong tell them apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

_LEVEL = 0.05
_POWER = 0.8
_QUANTILE = NormalDist().inv_cdf(1 - _LEVEL / 2)
_POWER_QUANTILE = NormalDist().inv_cdf(_POWER)


@dataclass(frozen=True)
class Paired:
    """Two models on the same photos: those that only the first classifies correctly, only the second, and all."""

    first: int
    second: int
    photos: int

    @classmethod
    def of(cls, first: Sequence[bool], second: Sequence[bool]) -> Self:
        """Compares what each model got right, photo by photo."""
        pairs = list(zip(first, second, strict=True))
        return cls(pairs.count((True, False)), pairs.count((False, True)), len(pairs))

    @classmethod
    def by_photo(cls, first: Mapping[str, bool], second: Mapping[str, bool]) -> Self | None:
        """Compares what each model got right, by photo; None where there are none, or not the same ones."""
        if not first or first.keys() != second.keys():
            return None
        return cls.of(list(first.values()), [second[photo] for photo in first])

    @property
    def difference(self) -> float:
        """The accuracy of the first minus that of the second."""
        return (self.first - self.second) / self.photos if self.photos else 0.0

    @property
    def p_value(self) -> float:
        """Of the exact test of McNemar (1947): chance, if it chose a model for each photo that tells them apart."""
        fewer, apart = min(self.first, self.second), self.first + self.second
        tosses: int = 2**apart
        return min(1.0, 2 * sum(math.comb(apart, count) for count in range(fewer + 1)) / tosses)

    @property
    def clear(self) -> bool:
        """Whether chance alone would make such a difference in fewer than 5 of 100 comparisons."""
        return self.p_value < _LEVEL

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the difference, by Agresti and Min (2005), who add half a photo to each kind of answer.

        It is widened to zero where the exact test finds no difference, so that the two never disagree.
        """
        photos, apart = self.photos + 2, self.first + self.second + 1
        middle = (self.first - self.second) / photos
        reach = _QUANTILE * math.sqrt(apart - (self.first - self.second) ** 2 / photos) / photos
        low, high = max(-1.0, middle - reach), min(1.0, middle + reach)
        return (low, high) if self.clear else (min(low, 0.0), max(high, 0.0))

    @property
    def photos_to_settle(self) -> int | None:
        """How many photos would show a difference of this size at the 5% level in 80 of 100 tries; None without one.

        n = (z_0.975 sqrt(a) + z_0.8 sqrt(a - d^2))^2 / d^2 by Connor (1987), where a is the share of photos that one
        model alone gets right, and d the difference.
        """
        if self.first == self.second:
            return None
        apart, square = (self.first + self.second) / self.photos, self.difference**2
        found = _QUANTILE * math.sqrt(apart) + _POWER_QUANTILE * math.sqrt(apart - square)
        return math.ceil(found**2 / square)


def interval(share: float, photos: int) -> tuple[float, float]:
    """Returns the 95% interval of a share that was measured on so many photos (Wilson 1927)."""
    if not photos:
        return 0.0, 1.0
    square = _QUANTILE**2 / photos
    middle = share + square / 2
    reach = _QUANTILE * math.sqrt((share * (1 - share) + square / 4) / photos)
    return (middle - reach) / (1 + square), min(1.0, (middle + reach) / (1 + square))


def unpaired_interval(first: tuple[float, int], second: tuple[float, int]) -> tuple[float, float]:
    """Returns the 95% interval of the difference of two shares, each with its photos, that are not the same ones.

    By Newcombe (1998), method 10, from the two intervals of Wilson.
    """
    (one, _), (other, _) = first, second
    (low, high), (other_low, other_high) = interval(*first), interval(*second)
    below, above = math.hypot(one - low, other_high - other), math.hypot(high - one, other - other_low)
    return one - other - below, one - other + above

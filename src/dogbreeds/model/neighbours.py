"""Which photos are close to each other by their features, in a time that grows with n log n.

Of up to `_EXHAUSTIVE` photos all pairs are compared. More are divided by random-projection trees (Dasgupta and
Freund, STOC 2008), each split at the median along the line through two random photos, as in Annoy: then each photo is
compared with the others of its leaf in each tree. Two photos whose cosine is 0.95 share one nearly always.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# All pairs of so many photos take about as long as their exact solution.
_EXHAUSTIVE = 16_000
_LEAF, _TREES = 2_500, 6
# Rows of a matrix of cosines that are in memory at once.
_ROWS = 1_024
# More copies than these still hang together: each is near others of its group.
_NEAREST = 4
# Photos of a class that others of it are compared with.
_CLASS_SAMPLE = 1_000
_CLASS_NEAREST = 5
# Makes the median absolute deviation of a normal distribution its standard deviation.
_MAD_TO_DEVIATION = 1.4826
_MIN_DEVIATION = 0.01


@dataclass(frozen=True)
class Pairs:
    """Photos that are alike, the nearest first: int64 positions (pairs,), `second` above `first`; float32 cosines."""

    first: Tensor
    second: Tensor
    cosine: Tensor


def near_pairs(features: Tensor, lowest: float, highest: float) -> Pairs:
    """Returns the pairs of photos that are unusually near each other.

    Unusual is a cosine above the middle between 1 and the median of all photos' nearest neighbours, which differs
    from backbone to backbone; at least `lowest`, and at most `highest`, because a set may consist of copies. Features
    (N, width) are normalised and centred, so that their cosines use the whole range.
    """
    unit = torch.nn.functional.normalize(features, dim=1)
    firsts, seconds, cosines = (torch.cat(found) for found in zip(*_neighbours(unit), strict=True))
    nearest = torch.full((len(unit),), -1.0).scatter_reduce(0, firsts, cosines, "amax")
    threshold = min(max((1 + float(nearest.median())) / 2, lowest), highest)
    kept = cosines >= threshold
    low, high = torch.minimum(firsts, seconds)[kept], torch.maximum(firsts, seconds)[kept]
    keys, places = (low * len(unit) + high).unique(return_inverse=True)
    cosine = torch.full((len(keys),), -1.0).scatter_reduce(0, places, cosines[kept], "amax")
    order = cosine.argsort(descending=True, stable=True)
    return Pairs(keys[order] // len(unit), keys[order] % len(unit), cosine[order])


def _neighbours(unit: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The nearest photos of each photo: positions, positions of the neighbours, cosines."""
    for leaf in _leaves(unit):
        members = unit[leaf]
        for start in range(0, len(leaf), _ROWS):
            cosines = members[start : start + _ROWS] @ members.T
            cosines[torch.arange(len(cosines)), torch.arange(start, start + len(cosines))] = -1.0
            values, places = cosines.topk(min(_NEAREST, len(leaf) - 1), dim=1)
            rows = leaf[start : start + _ROWS].unsqueeze(1).expand_as(places)
            yield rows.flatten(), leaf[places].flatten(), values.flatten()


def _leaves(unit: Tensor) -> Iterator[Tensor]:
    everything = torch.arange(len(unit))
    if len(unit) <= _EXHAUSTIVE:
        yield everything
        return
    generator = torch.Generator().manual_seed(0)
    for _ in range(_TREES):
        waiting = [everything]
        while waiting:
            members = waiting.pop()
            if len(members) <= _LEAF:
                yield members
                continue
            one, other = unit[members[torch.randperm(len(members), generator=generator)[:2]]]
            order = members[(unit[members] @ (one - other)).argsort()]
            waiting += order.tensor_split(2)


def oddness(features: Tensor, labels: Tensor, train: Tensor) -> Tensor:
    """Returns how far each photo is from the training photos of its class, in robust standard deviations (N,).

    The distance of a photo is one minus the mean cosine to its five nearest training photos of the class (Kuan and
    Mueller 2022, after Ramaswamy et al. 2000). From it the median of the class's training photos is subtracted, and
    the result is divided by their median absolute deviation times 1.4826 (Iglewicz and Hoaglin 1993). A class of more
    than 1,000 training photos is represented by as many, evenly spaced. NaN where a class has too few. Features
    (N, width) are normalised and centred; `train`, bool (N,), says which are training photos.
    """
    unit = torch.nn.functional.normalize(features, dim=1)
    found = torch.full((len(unit),), torch.nan)
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        others = members[train[members]]
        if len(others) <= 2 * _CLASS_NEAREST:
            continue
        sample = others[torch.linspace(0, len(others) - 1, min(len(others), _CLASS_SAMPLE)).long()]
        cosines = unit[members] @ unit[sample].T
        cosines[members.unsqueeze(1) == sample] = -1.0
        distances = 1 - cosines.topk(_CLASS_NEAREST, dim=1).values.mean(dim=1)
        typical = distances[train[members]]
        median = typical.median()
        deviation = _MAD_TO_DEVIATION * (typical - median).abs().median()
        found[members] = (distances - median) / deviation.clamp_min(_MIN_DEVIATION)
    return found

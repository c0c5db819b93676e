"""Which photos are close to each other by their features, in a time that grows with n log n.

Of up to `_EXHAUSTIVE` photos all pairs are compared. More are divided by random-projection trees (Dasgupta and
Freund, STOC 2008), each level split at the median along the line through two random photos: then each photo is
compared with the others of its leaf in each tree. Two photos whose cosine is 0.95 share one nearly always. What is
compared there are random projections (Johnson and Lindenstrauss 1984), a kilobyte for each photo; the features
themselves are read for the pairs that are near by them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dogbreeds.model.rows import Rows, computed

# All pairs of so many photos take about as long as their exact solution.
_EXHAUSTIVE = 16_000
_LEAF, _TREES = 2_500, 6
# Numbers of a projection; it changes a cosine of 0.85 by 0.02 (one standard deviation).
_PROJECTED, _SLACK = 256, 0.05
# Photos whose nearest neighbours say what is usual.
_USUAL_SAMPLE = 10_000
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


def near_pairs(features: Rows, lowest: float, highest: float) -> Pairs:
    """Returns the pairs of photos that are unusually near each other.

    Unusual is a cosine above the middle between 1 and the median of all photos' nearest neighbours, which differs
    from backbone to backbone; at least `lowest`, and at most `highest`, because a set may consist of copies. Features
    (N, width) are normalised and centred, so that their cosines use the whole range.
    """
    photos, limit = len(features), lowest - _SLACK
    looked = _projected(features)
    nearest, neighbours, near = torch.full((photos,), -1.0), torch.arange(photos), [torch.zeros(0, dtype=torch.int64)]
    for leaf in _leaves(looked):
        members = looked[leaf]
        for start in range(0, len(leaf), _ROWS):
            rows = leaf[start : start + _ROWS]
            cosines = members[start : start + _ROWS] @ members.T
            cosines.diagonal(start).fill_(-1.0)
            best, places = cosines.max(dim=1)
            closer = best > nearest[rows]
            nearest[rows[closer]], neighbours[rows[closer]] = best[closer], leaf[places[closer]]
            # Few photos have a near one: to look for several of each takes longer than the cosines.
            close = best >= limit
            values, places = cosines[close].topk(min(_NEAREST, len(leaf)), dim=1)
            first, second = rows[close].unsqueeze(1), leaf[places]
            near.append((torch.minimum(first, second) * photos + torch.maximum(first, second))[values >= limit])
    usual = torch.linspace(0, photos - 1, min(photos, _USUAL_SAMPLE)).long()
    median = float(_cosines(features, usual, neighbours[usual]).median())
    threshold = min(max((1 + median) / 2, lowest), highest)
    keys = torch.cat(near).unique()
    cosine = _cosines(features, keys // photos, keys % photos)
    keys, cosine = keys[cosine >= threshold], cosine[cosine >= threshold]
    order = cosine.argsort(descending=True, stable=True)
    return Pairs(keys[order] // photos, keys[order] % photos, cosine[order])


def _cosines(features: Rows, firsts: Tensor, seconds: Tensor) -> Tensor:
    parts = zip(firsts.split(_ROWS), seconds.split(_ROWS), strict=True)
    return torch.cat([torch.nn.functional.cosine_similarity(features[one], features[other]) for one, other in parts])


def _projected(features: Rows) -> Tensor:
    """Unit vectors whose cosines are those of the features; of many photos, about those."""
    if len(features) <= _EXHAUSTIVE:
        return torch.nn.functional.normalize(features[torch.arange(len(features))], dim=1)
    width = features[torch.arange(1)].shape[1]
    directions = torch.randn(width, _PROJECTED, generator=torch.Generator().manual_seed(0))
    return computed(lambda block: torch.nn.functional.normalize(block @ directions, dim=1), features)


def _leaves(unit: Tensor) -> Iterator[Tensor]:
    if len(unit) <= _EXHAUSTIVE:
        yield torch.arange(len(unit))
        return
    generator = torch.Generator().manual_seed(0)
    depth = math.ceil(math.log2(len(unit) / _LEAF))
    for _ in range(_TREES):
        one, other = unit[torch.randperm(len(unit), generator=generator)[: 2 * depth]].split(depth)
        along = unit @ (one - other).T
        leaves = [torch.arange(len(unit))]
        for level in range(depth):
            leaves = [half for leaf in leaves for half in leaf[along[leaf, level].argsort()].tensor_split(2)]
        yield from leaves


def oddness(features: Rows, labels: Tensor, train: Tensor) -> Tensor:
    """Returns how far each photo is from the training photos of its class, in robust standard deviations (N,).

    The distance of a photo is one minus the mean cosine to its five nearest training photos of the class (Kuan and
    Mueller 2022, after Ramaswamy et al. 2000). From it the median of the class's training photos is subtracted, and
    the result is divided by their median absolute deviation times 1.4826 (Iglewicz and Hoaglin 1993). A class of more
    than 1,000 training photos is represented by as many, evenly spaced. NaN where a class has too few. Features
    (N, width) are normalised and centred; `train`, bool (N,), says which are training photos.
    """
    found = torch.full((len(features),), torch.nan)
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        others = members[train[members]]
        if len(others) <= 2 * _CLASS_NEAREST:
            continue
        sample = others[torch.linspace(0, len(others) - 1, min(len(others), _CLASS_SAMPLE)).long()]
        known = torch.nn.functional.normalize(features[sample], dim=1)
        distances = torch.empty(len(members))
        for part, distance in zip(members.split(_ROWS), distances.split(_ROWS), strict=True):
            cosines = torch.nn.functional.normalize(features[part], dim=1) @ known.T
            cosines[part.unsqueeze(1) == sample] = -1.0
            distance.copy_(1 - cosines.topk(_CLASS_NEAREST, dim=1).values.mean(dim=1))
        typical = distances[train[members]]
        median = typical.median()
        deviation = _MAD_TO_DEVIATION * (typical - median).abs().median()
        found[members] = (distances - median) / deviation.clamp_min(_MIN_DEVIATION)
    return found

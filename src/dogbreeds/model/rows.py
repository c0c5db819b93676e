"""Vectors of photos that need not be in memory: read by position, in blocks."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor

# Memory of a block, 8 MB with 2,048 numbers a photo, is used again for the next one; for larger blocks the system
# would clear new memory each time.
_BLOCK = 1_024


class Rows(Protocol):
    """Vectors (N, width), float32: a tensor, or what is read on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Tensor, /) -> Tensor: ...


class _Derived:
    def __init__(self, parts: Sequence[Rows], function: Callable[[Tensor], Tensor], chosen: Tensor) -> None:
        self._parts, self._function, self._chosen = parts, function, chosen
        self._starts = torch.tensor(list(accumulate(map(len, parts), initial=0))[:-1])

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, positions: Tensor, /) -> Tensor:
        wanted = self._chosen[positions]
        part_of = torch.bucketize(wanted, self._starts, right=True) - 1
        within = wanted - self._starts[part_of]
        values = torch.cat([part[within[part_of == number]] for number, part in enumerate(self._parts)])
        # They are sorted by part.
        return self._function(values[part_of.argsort(stable=True).argsort()])


def derived(parts: Sequence[Rows], function: Callable[[Tensor], Tensor], chosen: Tensor | None = None) -> Rows:
    """Returns what a function makes of parts, one after the other, at positions; in memory where they are."""
    chosen = torch.arange(sum(map(len, parts))) if chosen is None else chosen
    rows = _Derived(parts, function, chosen)
    return rows[torch.arange(len(rows))] if all(isinstance(part, Tensor) for part in parts) else rows


def blocks(rows: Rows) -> Iterator[Tensor]:
    """Yields all rows in order, a block at a time."""
    for positions in torch.arange(len(rows)).split(_BLOCK):
        yield rows[positions]


def computed(function: Callable[[Tensor], Tensor], rows: Rows) -> Tensor:
    """Returns what a function makes of all rows, computed block by block."""
    first = function(rows[torch.arange(min(len(rows), _BLOCK))])
    found = first.new_empty(len(rows), *first.shape[1:])
    for part, block in zip(found.split(_BLOCK), blocks(rows), strict=True):
        part.copy_(function(block))
    return found

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


class Derived:
    """What a function makes of rows, of several parts one after the other, whenever they are read."""

    def __init__(self, parts: Sequence[Rows], function: Callable[[Tensor], Tensor]) -> None:
        self._parts, self._function = parts, function
        self._ends = torch.tensor(list(accumulate(map(len, parts))))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, positions: Tensor, /) -> Tensor:
        part_of = torch.bucketize(positions, self._ends, right=True)
        found: Tensor | None = None
        for number, part in enumerate(self._parts):
            inside = part_of == number
            if not inside.any():
                continue
            start = self._ends[number] - len(part)
            values = self._function(part[positions[inside] - start])
            if found is None:
                found = values.new_empty(len(positions), *values.shape[1:])
            found[inside] = values
        return self._function(self._parts[0][positions]) if found is None else found


class Chosen:
    """Some of the rows."""

    def __init__(self, rows: Rows, positions: Tensor) -> None:
        self._rows, self._positions = rows, positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, positions: Tensor, /) -> Tensor:
        return self._rows[self._positions[positions]]


def derived(parts: Sequence[Rows], function: Callable[[Tensor], Tensor]) -> Rows:
    """Returns what a function makes of rows, in memory where they are."""
    tensors = [part for part in parts if isinstance(part, Tensor)]
    return function(torch.cat(tensors)) if len(tensors) == len(parts) else Derived(parts, function)


def blocks(rows: Rows) -> Iterator[Tensor]:
    """Yields all rows in order, a block at a time."""
    for positions in torch.arange(len(rows)).split(_BLOCK):
        yield rows[positions]

"""Rows that are read on access are the same as those in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dogbreeds.model import rows
from dogbreeds.model.rows import blocks, computed, derived


class Filed:
    """Rows that are no tensor."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, positions: Tensor, /) -> Tensor:
        return self.values[positions]


def test_parts_are_read_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_BLOCK", 4)
    parts = [torch.randn(count, 3) for count in (5, 0, 2, 6)]
    chosen = torch.tensor([12, 0, 4, 4, 5, 6, 7, 12, 1])
    expected = torch.cat(parts)[chosen] * 2
    for given in (parts, [Filed(part) for part in parts]):
        found = derived(given, lambda block: block * 2, chosen)
        assert torch.equal(found[torch.arange(9)], expected)
        assert torch.equal(found[torch.tensor([8, 0, 0])], expected[[8, 0, 0]])
        assert [len(block) for block in blocks(found)] == [4, 4, 1]
        assert torch.equal(computed(lambda block: block.sum(dim=1), found), expected.sum(dim=1))
    assert isinstance(derived(parts, torch.abs), Tensor)
    assert torch.equal(computed(torch.abs, derived([Filed(part) for part in parts], torch.abs)), torch.cat(parts).abs())

"""Copies are found among many photos, outliers within a class."""

from __future__ import annotations

import pytest
import torch

from dogbreeds.model import neighbours
from dogbreeds.model.neighbours import near_pairs, oddness


def drawn(photos: int, width: int = 64) -> torch.Tensor:
    return torch.randn(photos, width, generator=torch.Generator().manual_seed(0))


def test_all_pairs_above_what_is_usual() -> None:
    features = drawn(500)
    features[400] = features[7] * 3 + 0.3 * torch.randn(64)
    features[401], features[402] = features[8], features[8]
    found = near_pairs(features, 0.75, 0.85)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs == {(7, 400), (8, 401), (8, 402), (401, 402)}
    assert (found.cosine.diff() <= 0).all()


def test_a_set_of_nothing_but_copies() -> None:
    features = drawn(50).repeat(2, 1)
    assert len(near_pairs(features, 0.75, 0.85).cosine) == 50
    assert len(near_pairs(torch.ones(1, 8), 0.75, 0.85).cosine) == 0


def test_trees_find_what_all_pairs_would(monkeypatch: pytest.MonkeyPatch) -> None:
    features = drawn(4000)
    originals = torch.arange(200)
    # Cosines of about 0.95.
    features[-200:] = features[originals] + 0.33 * torch.randn(200, 64, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(neighbours, "_EXHAUSTIVE", 100)
    monkeypatch.setattr(neighbours, "_LEAF", 250)
    found = near_pairs(features, 0.75, 0.85)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    true = {(one, one + 3800) for one in range(200)}
    assert len(pairs & true) >= 190
    assert len(pairs - true) == 0


def test_outliers_of_a_class() -> None:
    features, labels = drawn(300), torch.arange(300) % 2
    features[:, 0] += 8 * (2 * labels - 1)
    # One is like photos of no class, one like those of the other class.
    features[10] = 8 * torch.nn.functional.one_hot(torch.tensor(5), 64)
    features[11, 0] = -8
    train = torch.arange(300) < 200
    odd = oddness(features, labels, train)
    assert set(odd.topk(2).indices.tolist()) == {10, 11}
    assert odd[[10, 11]].min() > 3.5 > odd[train].median()
    few = oddness(features[:8], labels[:8], torch.ones(8, dtype=torch.bool))
    assert few.isnan().all()

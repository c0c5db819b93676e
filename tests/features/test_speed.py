"""The measured rate counts what was computed, and leaves the machine's speed out of the test."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from dogbreeds.data.transform import Transform
from dogbreeds.features import extract

TRANSFORM = Transform(32, 32, "bilinear", (0.5,) * 3, (0.5,) * 3)


class Counting:
    """An engine that counts the photos that it gets."""

    name, precision, batch_size, workers = "torch", "fp32", 4, 2

    def __init__(self) -> None:
        self.photos = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.photos += len(images)
        return images.flatten(1).float()


def test_whole_passes_over_all_photos_are_counted(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.25, 0.75, 1.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    engine = Counting()
    photos = sorted(sample.rglob("*.jpg"))[:6]
    assert extract.photos_per_second(engine, TRANSFORM, photos) == 2 * 6 / 1.5
    # A first batch for each thread warms it up.
    assert engine.photos == 2 * 4 + 2 * 6

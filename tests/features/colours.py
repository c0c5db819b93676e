"""Photos of one colour each, and a trunk that sees nothing else: whose features these are can be told by looking."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from dogbreeds.data.transform import Transform
from dogbreeds.model.backbones import Trunk

CPU = torch.device("cpu")
TRANSFORM = Transform(resize=36, crop=32, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
#: Seconds after which something that takes milliseconds counts as hung.
PATIENCE = 120.0

Colour = tuple[int, int, int]


def colours(count: int, first: int = 0) -> list[Colour]:
    return [(number, 255 - number, 7 * number % 256) for number in range(first, first + count)]


def paint(path: Path, colour: Colour) -> str:
    """Makes a photo and returns its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (48, 40), colour).save(path)
    return digest(path)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class MeanColour(nn.Module):
    """The least that can be called a trunk: (N, 3) for uint8 (N, 3, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean(dim=(2, 3))


def trunk(**changes: Any) -> Trunk:
    values: dict[str, Any] = {
        "name": "mean colour",
        "layers": nn.Sequential(MeanColour()),
        "transform": TRANSFORM,
        "fingerprint": "0" * 64,
        "shape": (3,),
    }
    return Trunk(**(values | changes))


class ColourEngine:
    """Gives mean colours, and keeps what it was asked for.

    Attributes:
        seen: The colours of all photos so far.
        batches: Their number in each batch.
        threads: Who called.
    """

    name, precision = "torch", "fp32"

    def __init__(
        self,
        batch_size: int = 3,
        workers: int = 2,
        before: Callable[[list[Colour]], None] | None = None,
        after: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """`before` is called with the colours of a batch and may raise or wait; `after` gets the features."""
        self.batch_size, self.workers = batch_size, workers
        self._before, self._after = before, after
        self._mutex = threading.Lock()
        self.seen: list[Colour] = []
        self.batches: list[int] = []
        self.threads: set[int] = set()

    def __call__(self, images: Tensor) -> Tensor:
        features: Tensor = MeanColour()(images)
        batch = [(int(red), int(green), int(blue)) for red, green, blue in features.tolist()]
        if self._before:
            self._before(batch)
        with self._mutex:
            self.seen += batch
            self.batches.append(len(batch))
            self.threads.add(threading.get_ident())
        return self._after(features) if self._after else features

"""What an engine is: it takes a batch of uint8 images and gives what a frozen trunk makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from dogbreeds.data.images import Transform, UnreadableImageError


class Keeper(Protocol):
    """Keeps named bytes between runs; the artefacts of a feature store do."""

    def get(self, name: str) -> bytes | None:
        """Returns what was kept, if anything."""

    def put(self, name: str, content: bytes) -> None:
        """Keeps bytes under a name."""


class Engine(Protocol):
    """What runs a frozen trunk. Any number of threads may call it.

    Attributes:
        name: One of `openvino`, `cuda` and `torch`.
        precision: `fp32` or `bf16`.
        batch_size: Images that it likes to get at once.
        lanes: Threads that should call it.
    """

    name: str
    precision: str
    batch_size: int
    lanes: int

    def read(self, contents: Sequence[bytes], transform: Transform) -> list[Tensor | UnreadableImageError]:
        """Returns the photos as uint8 (3, H, W), or why one is none."""

    def __call__(self, images: Tensor) -> Tensor:
        """Returns features for uint8 images (N, 3, H, W), on the CPU: float32 vectors, float16 activations."""

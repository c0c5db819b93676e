"""The interface of engines."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Engine(Protocol):
    """Runs a frozen trunk. Any number of threads may call it.

    Attributes:
        name: `openvino`, `cuda` or `torch`.
        precision: `fp32` or `bf16`.
        batch_size: Images per call that suit it best.
        workers: Threads that should call it.
    """

    name: str
    precision: str
    batch_size: int
    workers: int

    def __call__(self, images: Tensor) -> Tensor:
        """Returns features for uint8 images (N, 3, H, W), on the CPU: float32 vectors, float16 activations."""

"""The trunk as a plain torch module: the engine that works everywhere and that others are measured against."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dogbreeds.data.images import Transform, UnreadableImageError, read_all

_BATCH_SIZE = 32


def resolve_precision(requested: str, device: torch.device) -> str:
    """Returns `bf16` or `fp32` for `auto`: bf16 where the processor computes it in hardware.

    Args:
        requested: `auto`, `fp32` or `bf16`.
        device: Where the trunk will run.
    """
    if requested != "auto":
        return requested
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # AMX implies avx512_bf16, so one question covers both.
    hardware = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if hardware else "fp32"


def as_stored(features: Tensor) -> Tensor:
    """Returns features as every engine hands them out: float32 vectors, or activations in half precision.

    Activations are hundreds of times larger than vectors; rounding them here, and not where they are stored,
    lets training and serving see the same numbers.
    """
    return features.float() if features.dim() == 2 else features.half()


class TorchEngine:
    """Runs a frozen trunk over batches of uint8 images.

    An image's features do not depend on the batch it comes in beyond float rounding, so training, serving
    and the command line may batch as they like.
    """

    name = "torch"

    def __init__(
        self, trunk: nn.Module, *, device: torch.device, precision: str, batch_size: int | None = None, lanes: int = 1
    ) -> None:
        """Puts a copy of the trunk on the device.

        Args:
            trunk: Takes uint8 (N, 3, H, W), gives (N, width), or activations of more dimensions.
            device: Where it runs.
            precision: `fp32` or `bf16`, already resolved.
            batch_size: Images per forward pass.
            lanes: Threads that read photos; the forward passes themselves take turns.
        """
        # A copy: the caller's layers may be trained on, and must not depend on whether features were computed.
        self.trunk = copy.deepcopy(trunk).to(device).to(memory_format=torch.channels_last).eval()
        self.device = device
        self.precision = precision
        self.batch_size = batch_size or _BATCH_SIZE
        self.lanes = lanes
        self._turn = threading.Lock()

    def read(self, contents: Sequence[bytes], transform: Transform) -> list[Tensor | UnreadableImageError]:
        """Decodes photos with Pillow."""
        return read_all(contents, transform)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Returns features (N, ...) on the CPU for uint8 images (N, 3, H, W)."""
        half = self.precision == "bf16"
        with self._turn, torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            parts = [
                as_stored(self.trunk(part.to(self.device, memory_format=torch.channels_last))).cpu()
                for part in images.split(self.batch_size)
            ]
        return torch.cat(parts)

"""The trunk as a plain torch module: the engine that works everywhere and that others are measured against."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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


class TorchEngine:
    """Runs a frozen trunk over batches of uint8 images.

    An image's features do not depend on the batch it comes in beyond float rounding, so training, serving
    and the command line may batch as they like.
    """

    def __init__(self, trunk: nn.Module, *, device: torch.device, precision: str, batch_size: int) -> None:
        """Moves the trunk to the device.

        Args:
            trunk: Takes uint8 (N, 3, H, W), gives (N, width).
            device: Where it runs.
            precision: `fp32` or `bf16`, already resolved.
            batch_size: Images per forward pass.
        """
        self.trunk = trunk.to(device).to(memory_format=torch.channels_last).eval()
        self.device = device
        self.precision = precision
        self.batch_size = batch_size

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Returns float32 features (N, width) on the CPU for uint8 images (N, 3, H, W)."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            parts = [
                self.trunk(part.to(self.device, memory_format=torch.channels_last)).float().cpu()
                for part in images.split(self.batch_size)
            ]
        return torch.cat(parts)

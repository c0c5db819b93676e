"""The trunk as a plain torch module: the engine that works everywhere and that the others are measured against."""

import copy
import threading
from pathlib import Path

import torch
from torch import Tensor, nn

_BATCH_SIZE = 32
_CPU_INFO = Path("/proc/cpuinfo")


def resolve_precision(requested: str, device: torch.device) -> str:
    """Returns `bf16` or `fp32`, or `int8` where that is requested.

    `auto` is bf16 where the hardware computes it. A GPU without bf16 hardware (Turing and older) always gets fp32:
    it would emulate bf16, which is slower and less exact.
    """
    if requested in ("fp32", "int8"):
        return requested
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # AMX implies avx512_bf16, so one flag covers both. Torch 2.10 has no public function that tells.
    known = _CPU_INFO.read_text() if device.type == "cpu" and _CPU_INFO.is_file() else ""
    return "bf16" if requested == "bf16" or "avx512_bf16" in known.split() else "fp32"


def as_stored(features: Tensor) -> Tensor:
    """Returns features as every engine hands them out: float32 vectors, or activations in half precision.

    Activations are hundreds of times larger than vectors. Rounding them here, and not where they are stored,
    lets training and serving see the same numbers.
    """
    return features.float() if features.dim() == 2 else features.half()


class TorchEngine:
    """Runs a frozen trunk over batches of uint8 images; the forward passes of several threads take turns.

    An image's features do not depend on the rest of its batch beyond float rounding, so training, serving
    and the command line may batch as they like.
    """

    name = "torch"

    def __init__(
        self, trunk: nn.Module, *, device: torch.device, precision: str, batch_size: int | None = None, workers: int = 1
    ) -> None:
        """Puts a copy of the trunk on the device; for arguments see `build`."""
        # A copy: the caller's layers may be trained further, and must not depend on whether features were computed.
        self.trunk = copy.deepcopy(trunk).to(device).to(memory_format=torch.channels_last).eval()
        self.device, self.precision, self.workers = device, precision, workers
        self.batch_size = batch_size or _BATCH_SIZE
        self._turn = threading.Lock()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Returns features (N, ...) on the CPU for uint8 images (N, 3, H, W)."""
        half = self.precision == "bf16"
        # By default cuDNN rounds the operands of float32 convolutions to TF32, which a CPU does not.
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with self._turn, exact, torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            parts = [
                as_stored(self.trunk(part.to(self.device, memory_format=torch.channels_last))).cpu()
                for part in images.split(self.batch_size)
            ]
        return torch.cat(parts)

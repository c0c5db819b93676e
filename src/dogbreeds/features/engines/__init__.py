"""Engines: uint8 images in, features of a frozen trunk out.

The fastest that this machine has runs, unless there is so little to compute that its start-up does not pay.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from dogbreeds.data.transform import Transform
from dogbreeds.errors import ConfigError, EngineError
from dogbreeds.features.engines.reference import TorchEngine, resolve_precision

if TYPE_CHECKING:
    from dogbreeds.features.store.blobs import BlobCache
    from dogbreeds.model.network import Graph

log = logging.getLogger(__name__)

# OpenVINO gives each stream its own memory; more than this many gain nothing on large processors.
MAX_WORKERS = 16
# In photos of the faster engine: what torch takes for one, and what starting the faster one takes. On 2 cores torch
# took 2.5 (ResNet50) to 3.7 times (SqueezeNet) as long as OpenVINO, which started in the time of 100 to 700 photos.
_TORCH_SLOWNESS = 3
_START_UP_PHOTOS = 400

#: All engines, whatever this machine has.
ENGINES = ("openvino", "cuda", "torch")
# Raised where an engine's features change: the first one of CUDA read weights from memory that was already freed.
_VERSIONS = {"cuda": " 2"}


class Engine(Protocol):
    """Runs a frozen trunk by `openvino`, `cuda` or `torch` in some precision; any number of threads may call it.

    It is fastest with `workers` threads that give it `batch_size` images per call.
    """

    name: str
    precision: str
    batch_size: int
    workers: int

    def __call__(self, images: Tensor) -> Tensor:
        """Returns features for uint8 images (N, 3, H, W), on the CPU: float32 vectors, float16 activations."""


def key_of(name: str, precision: str, calibration: str = "") -> str:
    """Returns how stored features name what computed them: engine, calibration of int8, and last the precision."""
    return " ".join(filter(None, (f"{name}{_VERSIONS.get(name, '')}", calibration, precision)))


def available(device: torch.device) -> tuple[str, ...]:
    """Returns the engines that can run on a device of this machine, the fastest first and `torch` always."""
    if device.type == "cuda":
        return ("cuda", "torch")
    if device.type == "cpu" and importlib.util.find_spec("openvino"):
        return ("openvino", "torch")
    return ("torch",)


def candidates(requested: str, device: torch.device) -> tuple[str, ...]:
    found = available(device)
    if requested == "auto":
        return found
    if requested not in found:
        hint = " (pip install openvino)" if requested == "openvino" and device.type == "cpu" else ""
        said = f"features.engine={requested} does not run on {device.type} here{hint}."
        raise ConfigError(f"{said} Use {' or '.join(found)}, or auto.")
    return (requested,)


def engine_for(requested: str, precision: str, device: torch.device) -> str:
    """Returns the setting features.engine that a precision leaves; refuses int8 where OpenVINO does not run."""
    if precision != "int8":
        return requested
    if requested not in ("auto", "openvino") or "openvino" not in available(device):
        raise ConfigError(
            f"features.precision=int8 needs OpenVINO on a processor, and this is features.engine={requested} on "
            f"{device.type}. Use features.precision=bf16, or trainer.accelerator=cpu features.engine=auto; where "
            "OpenVINO is missing, pip install openvino."
        )
    return "openvino"


def choose(missing: Mapping[str, int]) -> str:
    """Returns the engine that has all features soonest.

    With nothing stored that is torch for fewer than 200 photos, and the faster engine for more.
    """

    def cost(name: str) -> int:
        photos = missing[name]
        return _TORCH_SLOWNESS * photos if name == "torch" else photos and photos + _START_UP_PHOTOS

    return min(missing, key=cost)


def worker_count(workers: int | None) -> int:
    """Returns how many threads read photos: the setting data.workers, or one per core that this process may use."""
    if workers is not None:
        return max(1, workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)


def build(
    name: str,
    trunk: nn.Module,
    fingerprint: str,
    transform: Transform,
    *,
    device: torch.device,
    precision: str,
    batch_size: int | None,
    workers: int,
    cache: BlobCache | None,
    int8: Graph | None = None,
    one_by_one: bool = False,
) -> Engine:
    """Starts an engine.

    Args:
        name: One of `candidates`.
        trunk: Takes uint8 (N, 3, H, W), gives vectors (N, width) or activations; it is not changed.
        precision: `fp32` or `bf16`; a GPU without bf16 hardware computes in fp32 all the same. OpenVINO has `int8`.
        batch_size: Images per forward pass; None is the engine's own choice.
        cache: Keeps what is expensive to recompute; None recomputes it each time.
        int8: The quantised trunk, for the precision `int8`.
        one_by_one: Photos come singly or in small groups, and do not wait for the arithmetic of whole batches.

    Raises:
        EngineError: It cannot be started on this machine.
    """
    resolved = resolve_precision(precision, device)
    if resolved != precision:
        log.info("%s has no hardware for %s: the trunk runs in %s", device, precision, resolved)
    try:
        if name == "openvino":
            from dogbreeds.features.engines.cpu import OpenVinoEngine

            # It computes the same features of a photo in batches of any size.
            size = 1 if one_by_one else batch_size
            return OpenVinoEngine(trunk, fingerprint, transform, resolved, size, workers, cache, int8)
        if name == "cuda":
            from dogbreeds.features.engines.cuda import CudaEngine

            return CudaEngine(trunk, transform, device, resolved, batch_size, workers, one_by_one=one_by_one)
    except Exception as error:
        # Drivers, compilers and conversions fail in many ways, and plain torch always works.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        said = f"features.engine={name} does not start here ({reason})."
        raise EngineError(f"{said} Use features.engine=torch.") from error
    return TorchEngine(trunk, device=device, precision=resolved, batch_size=batch_size, workers=workers)

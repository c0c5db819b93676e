"""Engines: they take a batch of uint8 images and give the features that a frozen trunk makes of them.

Which one runs is decided here: the fastest that this machine has, unless there is so little to compute that its
start-up cannot be earned back.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from dogbreeds.data.images import Transform
from dogbreeds.errors import ConfigError, EngineError
from dogbreeds.features.engines.engine import Engine, Keeper
from dogbreeds.features.engines.reference import TorchEngine

# OpenVINO gives each stream its own memory; more than this many gain nothing on large processors.
_MOST_LANES = 16


@dataclass(frozen=True)
class _Cost:
    """Seconds that an engine takes: to start, for a photo whatever the trunk, and for one of its operations."""

    start: float
    photo: float
    operation: float


# Fitted to SqueezeNet 1.1 and ResNet50 in bf16 on 2 cores without matrix units; other processors move both CPU
# engines alike, and only the point where one overtakes the other counts. The row of CUDA is an estimate, and torch
# is taken to be as slow on a GPU as on a processor, which only makes CUDA graphs start for fewer photos.
_COSTS = {
    "torch": _Cost(0.0, 6e-3, 1 / 1.8e11),
    "openvino": _Cost(2.0, 1e-3, 1 / 4.1e11),
    "cuda": _Cost(3.0, 3e-4, 1 / 2e13),
}

#: All engines, whatever this machine has.
ENGINES = tuple(_COSTS)


def available(device: torch.device) -> tuple[str, ...]:
    """Returns the engines that can run on a device of this machine, `torch` always."""
    if device.type == "cuda":
        return ("cuda", "torch")
    if device.type == "cpu" and importlib.util.find_spec("openvino"):
        return ("openvino", "torch")
    return ("torch",)


def candidates(requested: str, device: torch.device) -> tuple[str, ...]:
    """Returns the engines to choose from.

    Args:
        requested: The setting features.engine.
        device: Where the trunk runs.

    Raises:
        ConfigError: The one that is asked for cannot run here.
    """
    found = available(device)
    if requested == "auto":
        return found
    if requested not in found:
        hint = " (pip install openvino)" if requested == "openvino" and device.type == "cpu" else ""
        raise ConfigError(
            f"features.engine={requested} does not run on {device.type} here{hint}. "
            f"It may be {' or '.join(found)}, or auto."
        )
    return (requested,)


def choose(missing: Mapping[str, int], operations: float) -> str:
    """Returns the engine that has all features soonest.

    Args:
        missing: For each candidate, the photos for which the store has no features of that engine.
        operations: Floating-point operations of one photo.
    """

    def cost(name: str) -> float:
        known = _COSTS[name]
        return known.start + missing[name] * (known.photo + known.operation * operations) if missing[name] else 0.0

    return min(missing, key=cost)


def lanes_of(workers: int | None) -> int:
    """Returns how many threads read photos: the setting data.workers, or one per core that this process may use."""
    if workers is not None:
        return max(1, workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_LANES)


def batch_when_serving(name: str) -> int | None:
    """Returns the images per forward pass of an engine that answers people; None is what it likes best.

    One photo must not wait for seven that are not there, and what OpenVINO computes of it is the same.
    """
    return 1 if name == "openvino" else None


def build(
    name: str,
    trunk: nn.Module,
    fingerprint: str,
    transform: Transform,
    *,
    device: torch.device,
    precision: str,
    batch_size: int | None,
    lanes: int,
    keeper: Keeper | None,
) -> Engine:
    """Starts an engine.

    Args:
        name: One of `candidates`.
        trunk: Takes uint8 (N, 3, H, W) and stays as it is.
        fingerprint: SHA-256 of its weights, which names what is kept of it.
        transform: Gives the size of the images.
        device: Where it runs.
        precision: `fp32` or `bf16`, resolved.
        batch_size: Images per forward pass; None is what suits the engine.
        lanes: Threads that will call it.
        keeper: Keeps what is dear to make again; None makes it each time.

    Raises:
        EngineError: It cannot be started on this machine.
    """
    try:
        if name == "openvino":
            from dogbreeds.features.engines.cpu import OpenVinoEngine

            return OpenVinoEngine(trunk, fingerprint, transform, precision, batch_size, lanes, keeper)
        if name == "cuda":
            from dogbreeds.features.engines.cuda import CudaEngine

            return CudaEngine(trunk, transform, device, precision, batch_size, lanes)
    except Exception as error:
        # Drivers, compilers and conversions fail in many ways, and plain torch always works.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise EngineError(
            f"features.engine={name} does not start here ({reason}). Use features.engine=torch."
        ) from error
    return TorchEngine(trunk, device=device, precision=precision, batch_size=batch_size, lanes=lanes)

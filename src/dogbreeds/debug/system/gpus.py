"""NVIDIA GPUs, by the driver's own library (NVML)."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from dogbreeds.debug.measurements import Gpu

log = logging.getLogger(__name__)

_MILLIWATTS = 1000


class Gpus:
    """The GPUs that CUDA shows to this process; none without a GPU, a driver or NVML.

    GPUs for which NVML does not report utilization or memory are left out: slices of a GPU (MIG), some that share the
    processor's memory, and those that fail.
    """

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._nvml = _start()
        if self._nvml is None:
            return
        found = [self._found(position) for position in range(int(self._optional(self._nvml.nvmlDeviceGetCount) or 0))]
        shown = visible([uuid for uuid, _ in found], os.environ.get("CUDA_VISIBLE_DEVICES"))
        self._handles = [found[position][1] for position in shown if found[position][1] is not None]

    def read(self) -> tuple[Gpu, ...]:
        """Measures each GPU; once one has failed, none is measured any more."""
        if not self._handles:
            return ()
        try:
            return tuple(map(self._gpu, self._handles))
        except self._nvml.NVMLError as error:
            log.warning("GPUs are no longer measured: %s", error)
            self._handles = []
            return ()

    def close(self) -> None:
        if self._nvml is not None:
            self._optional(self._nvml.nvmlShutdown)

    def _found(self, position: int) -> tuple[str, Any]:
        """Returns the UUID and the handle of a GPU; one that cannot be read keeps its position, without a handle."""
        uuid, nvml = "", self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(position)
            uuid = nvml.nvmlDeviceGetUUID(handle)
            nvml.nvmlDeviceGetUtilizationRates(handle)
            nvml.nvmlDeviceGetMemoryInfo(handle)
        except nvml.NVMLError as error:
            log.info("GPU %d is not measured: %s", position, error)
            return uuid, None
        return uuid, handle

    def _gpu(self, handle: Any) -> Gpu:
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        power = self._optional(nvml.nvmlDeviceGetPowerUsage, handle)
        return Gpu(
            utilization=float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            memory_used=int(memory.used),
            memory_total=int(memory.total),
            power=None if power is None else power / _MILLIWATTS,
            temperature=self._optional(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        )

    def _optional(self, function: Callable[..., Any], *arguments: Any) -> float | None:
        try:
            value = function(*arguments)
        except self._nvml.NVMLError:
            return None
        return None if value is None else float(value)


def visible(uuids: Sequence[str], setting: str | None) -> list[int]:
    """Returns the positions of the GPUs that CUDA shows, in its order.

    Positions are those of NVML, the order of the PCI bus; in a machine with different GPUs CUDA counts in that order
    if CUDA_DEVICE_ORDER=PCI_BUS_ID.

    Args:
        setting: CUDA_VISIBLE_DEVICES: positions and the beginnings of UUIDs, separated by commas; CUDA ignores all
            that follows an entry that names no GPU. None shows all.
    """
    if setting is None:
        return list(range(len(uuids)))
    found: list[int] = []
    for entry in (part.strip() for part in setting.split(",")):
        named = [n for n, uuid in enumerate(uuids) if entry == str(n) or (entry and uuid.startswith(entry))]
        if len(named) != 1:
            break
        found += named
    return found


def _start() -> Any:
    try:
        import pynvml
    except ImportError as error:
        log.debug("No GPU is measured: %s", error)
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.debug("No GPU is measured: %s", error)
        return None
    return pynvml

"""NVIDIA GPUs, by the driver's own library (NVML)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

from dogbreeds.debug.measurements import Gpu

log = logging.getLogger(__name__)

_BYTES_PER_KB = 1000
_MILLIWATTS = 1000


class Gpus:
    """The GPUs that CUDA shows to this process; none where there is no GPU, no driver or no NVML.

    GPUs whose utilization or memory NVML does not tell are left out; those are slices of a GPU (MIG), and some that
    share the processor's memory.
    """

    def __init__(self) -> None:
        """Starts NVML, once for all readings."""
        self._handles: list[Any] = []
        self._nvml = _start()
        if self._nvml is None:
            return
        handles = [self._nvml.nvmlDeviceGetHandleByIndex(n) for n in range(self._nvml.nvmlDeviceGetCount())]
        uuids = [self._nvml.nvmlDeviceGetUUID(handle) for handle in handles]
        shown = visible(uuids, os.environ.get("CUDA_VISIBLE_DEVICES"))
        self._handles = [handles[n] for n in shown if self._is_readable(handles[n])]
        counters = (self._nvml.NVML_PCIE_UTIL_RX_BYTES, self._nvml.NVML_PCIE_UTIL_TX_BYTES)
        places = [(number, counter) for number in range(len(self._handles)) for counter in range(len(counters))]
        self._counters, self._turns = counters, cycle(places)
        self._throughput: list[list[float | None]] = [[None, None] for _ in self._handles]

    def read(self) -> tuple[Gpu, ...]:
        """Measures each GPU; after one has failed there are no more.

        NVML watches the bus for 20 ms to tell the throughput of one GPU in one direction. So each reading asks for
        one of these numbers, in turn, and repeats the others as they were.
        """
        if not self._handles:
            return ()
        number, counter = next(self._turns)
        throughput = self._optional(
            self._nvml.nvmlDeviceGetPcieThroughput, self._handles[number], self._counters[counter]
        )
        self._throughput[number][counter] = None if throughput is None else throughput * _BYTES_PER_KB
        try:
            return tuple(self._gpu(number, handle) for number, handle in enumerate(self._handles))
        except self._nvml.NVMLError as error:
            log.warning("The GPUs are not measured any more: %s", error)
            self._handles = []
            return ()

    def close(self) -> None:
        """Ends what the start began."""
        if self._nvml is not None:
            self._nvml.nvmlShutdown()

    def _gpu(self, number: int, handle: Any) -> Gpu:
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        power = self._optional(nvml.nvmlDeviceGetPowerUsage, handle)
        received, sent = self._throughput[number]
        return Gpu(
            utilization=float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            memory_used=int(memory.used),
            memory_total=int(memory.total),
            power=None if power is None else power / _MILLIWATTS,
            temperature=self._optional(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            received=received,
            sent=sent,
        )

    def _optional(self, function: Callable[..., int], *arguments: Any) -> float | None:
        try:
            return float(function(*arguments))
        except self._nvml.NVMLError:
            return None

    def _is_readable(self, handle: Any) -> bool:
        try:
            self._nvml.nvmlDeviceGetUtilizationRates(handle)
            self._nvml.nvmlDeviceGetMemoryInfo(handle)
        except self._nvml.NVMLError as error:
            log.info("A GPU is not measured: %s", error)
            return False
        return True


def visible(uuids: Sequence[str], setting: str | None) -> list[int]:
    """Returns the positions of the GPUs that CUDA shows, in its order.

    Positions are those of NVML, the order of the PCI bus; where unlike GPUs stand in one machine, CUDA counts in that
    order if CUDA_DEVICE_ORDER=PCI_BUS_ID.

    Args:
        uuids: Of all GPUs.
        setting: CUDA_VISIBLE_DEVICES: positions and the beginnings of UUIDs, separated by commas, of which CUDA
            takes those before the first that names no GPU. None shows all.
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

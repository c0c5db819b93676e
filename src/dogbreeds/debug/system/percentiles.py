"""Percentiles of what was measured, as the report's tables show them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from dogbreeds.debug.measurements import Gpu, Sample

_MEGA, _GIGA = 1e6, 1e9
_MACHINE: tuple[tuple[str, str, Callable[[Sample], float]], ...] = (
    ("CPU", "%", lambda sample: sample.cpu),
    ("I/O wait", "%", lambda sample: sample.io_wait),
    ("memory", "%", lambda sample: sample.memory),
    ("disk read", "MB/s", lambda sample: sample.read / _MEGA),
    ("disk written", "MB/s", lambda sample: sample.written / _MEGA),
    ("network received", "MB/s", lambda sample: sample.received / _MEGA),
    ("network sent", "MB/s", lambda sample: sample.sent / _MEGA),
    ("own CPU", "% of a core", lambda sample: sample.own_cpu),
    ("own memory", "GB", lambda sample: sample.own_memory / _GIGA),
)
_GPU: tuple[tuple[str, str, Callable[[Gpu], float | None]], ...] = (
    ("utilization", "%", lambda gpu: gpu.utilization),
    ("memory", "%", lambda gpu: 100 * gpu.memory_used / gpu.memory_total),
    ("power", "W", lambda gpu: gpu.power),
    ("temperature", "°C", lambda gpu: gpu.temperature),
)


@dataclass(frozen=True)
class Percentiles:
    """A row of a table of percentiles: what it is of, its unit (MB and GB are 10^6 and 10^9 bytes), the numbers."""

    name: str
    unit: str
    maximum: float
    p99: float
    p95: float
    p50: float
    minimum: float

    @classmethod
    def of(cls, name: str, unit: str, values: Sequence[float]) -> Self:
        return cls(name, unit, *(float(one) for one in np.percentile(values, (100, 99, 95, 50, 0))))


def usage_percentiles(samples: Sequence[Sample]) -> list[Percentiles]:
    """Returns the rows of the table of system usage of SageMaker's profiler report; none of what was not reported."""
    if not samples:
        return []
    rows = [Percentiles.of(name, unit, [value(sample) for sample in samples]) for name, unit, value in _MACHINE]
    for number in range(max(len(sample.gpus) for sample in samples)):
        gpus = [sample.gpus[number] for sample in samples if len(sample.gpus) > number]
        for name, unit, reported in _GPU:
            if values := [value for value in map(reported, gpus) if value is not None]:
                rows.append(Percentiles.of(f"GPU {number} {name}", unit, values))
    return rows

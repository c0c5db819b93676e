"""Percentiles of what was sampled, for the report's table of system usage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
class UsageStatistic:
    """How much of something was used.

    Attributes:
        name: Such as `CPU` or `GPU 0 memory`.
        unit: Of all the numbers; MB and GB are 10^6 and 10^9 bytes.
        maximum: The most.
        p99: The 99th percentile.
        p95: The 95th.
        p50: The median.
        minimum: The least.
    """

    name: str
    unit: str
    maximum: float
    p99: float
    p95: float
    p50: float
    minimum: float


def statistics_of(samples: Sequence[Sample]) -> list[UsageStatistic]:
    """Returns the lines of the table of system usage, as the service's profiler report has them.

    Args:
        samples: Of a run, or a part of it; without any there are no lines, and none of what no GPU told.
    """
    if not samples:
        return []
    lines = [_statistic(name, unit, [value(sample) for sample in samples]) for name, unit, value in _MACHINE]
    for number in range(max(len(sample.gpus) for sample in samples)):
        gpus = [sample.gpus[number] for sample in samples if len(sample.gpus) > number]
        for name, unit, told in _GPU:
            values = [value for value in map(told, gpus) if value is not None]
            if values:
                lines.append(_statistic(f"GPU {number} {name}", unit, values))
    return lines


def _statistic(name: str, unit: str, values: Sequence[float]) -> UsageStatistic:
    return UsageStatistic(name, unit, *(float(one) for one in np.percentile(values, (100, 99, 95, 50, 0))))

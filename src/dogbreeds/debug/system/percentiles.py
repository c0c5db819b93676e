"""Percentiles of what was measured, as the report's tables show them."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Self

import numpy as np

from dogbreeds.debug.measurements import Sample
from dogbreeds.files import yaml_beside

_ROWS = yaml_beside(__file__, "usage.yaml")


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
    rows = [
        Percentiles.of(name, unit, [getattr(sample, field) / divisor for sample in samples])
        for name, unit, field, divisor in _ROWS["machine"]
    ]
    for number in range(max(len(sample.gpus) for sample in samples)):
        gpus = [sample.gpus[number] for sample in samples if len(sample.gpus) > number]
        for name, unit, field in _ROWS["gpu"]:
            if values := [value for value in map(attrgetter(field), gpus) if value is not None]:
                rows.append(Percentiles.of(f"GPU {number} {name}", unit, values))
    return rows

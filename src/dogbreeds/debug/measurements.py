"""What is measured while a run lasts: samples of the machine, times of training steps, phases; their percentiles.

Times of day are seconds since 1970, so that what threads, processes and resumed runs wrote fits together.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Self

import numpy as np

from dogbreeds.files import yaml_beside

#: The first phase of a run, and of each time that it was resumed.
START_UP = "start-up"
#: The parts of a step, in their order.
PARTS = ("data", "move", "forward", "backward", "record", "optimizer", "logging")
_ROWS = yaml_beside(__file__, "usage.yaml")


class JsonLine:
    """A dataclass that is kept as one line of a file."""

    def line(self) -> str:
        return json.dumps(vars(self), default=vars, separators=(",", ":"))

    @classmethod
    def parsed(cls, line: str) -> Self:
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Gpu:
    """One GPU at one moment.

    Utilization is the percentage of time since the driver's last sample in which a kernel ran; memory is in bytes, of
    all processes; power in watts; temperature in degrees Celsius.
    """

    utilization: float
    memory_used: int
    memory_total: int
    power: float | None = None
    temperature: float | None = None

    @property
    def memory_percent(self) -> float:
        return 100 * self.memory_used / self.memory_total


@dataclass(frozen=True)
class Sample(JsonLine):
    """The machine, and this run's process tree, since the previous sample.

    Attributes:
        cpu: Percent of all cores together that worked.
        cores: The same for each core.
        io_wait: Percent of the time of all cores that they were idle and waited for disks.
        memory: Percent of the machine's memory that is in use.
        memory_used: The same in bytes.
        read: Bytes a second from the disks; `written` to them.
        received: Bytes a second from the network; `sent` to it.
        own_cpu: Percent of one core that the run's processes used together; 200 is two whole cores.
        own_memory: Bytes of memory that they hold.
    """

    at: float
    cpu: float
    cores: tuple[float, ...]
    io_wait: float
    memory: float
    memory_used: int
    read: float
    written: float
    received: float
    sent: float
    own_cpu: float
    own_memory: int
    gpus: tuple[Gpu, ...] = ()

    @classmethod
    def parsed(cls, line: str) -> Self:
        values: dict[str, Any] = json.loads(line)
        # Older runs measured more of a GPU.
        known = [one.name for one in fields(Gpu)]
        gpus = tuple(Gpu(**{name: gpu[name] for name in known}) for gpu in values["gpus"])
        return cls(**values | {"cores": tuple(values["cores"]), "gpus": gpus})


@dataclass(frozen=True)
class StepTimes(JsonLine):
    """Where the time of one training step went, in seconds.

    `data` is waiting for the batch, `move` bringing it to the device, `record` the debugger, `logging` metrics and
    Lightning's own work.

    Attributes:
        step: Optimizer steps of the run before it.
        epoch: From 1.
        at: When it ended.
    """

    step: int
    epoch: int
    at: float
    data: float = 0.0
    move: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    record: float = 0.0
    optimizer: float = 0.0
    logging: float = 0.0

    @property
    def total(self) -> float:
        return float(sum(getattr(self, part) for part in PARTS))


@dataclass(frozen=True)
class Phase(JsonLine):
    """A part of a run, such as `features` or `training`; times in seconds since 1970."""

    name: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class Measurements:
    """All that was measured so far; of the phases those that have ended."""

    samples: list[Sample] = field(default_factory=list)
    steps: list[StepTimes] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)


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
        Percentiles.of(name, unit, [getattr(sample, of_sample) / divisor for sample in samples])
        for name, unit, of_sample, divisor in _ROWS["machine"]
    ]
    for number in range(max(len(sample.gpus) for sample in samples)):
        gpus = [sample.gpus[number] for sample in samples if len(sample.gpus) > number]
        for name, unit, of_gpu in _ROWS["gpu"]:
            if values := [value for value in map(attrgetter(of_gpu), gpus) if value is not None]:
                rows.append(Percentiles.of(f"GPU {number} {name}", unit, values))
    return rows

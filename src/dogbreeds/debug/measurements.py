"""What is measured of the machine and of time while a run lasts: samples, steps and phases.

Times of day are seconds since 1970, so that what different threads, processes and continued runs wrote fits together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any, Self

#: The phase that begins a run, and a continued one once more.
START_UP = "start-up"


@dataclass(frozen=True)
class Gpu:
    """One GPU at one moment.

    Attributes:
        utilization: Percent of the time since the driver's last sample in which a kernel ran.
        memory_used: Bytes in use, by whatever process.
        memory_total: Bytes that it has.
        power: Watts.
        temperature: Degrees Celsius.
        received: PCIe, bytes a second to the GPU.
        sent: PCIe, bytes a second from the GPU.
    """

    utilization: float
    memory_used: int
    memory_total: int
    power: float | None = None
    temperature: float | None = None
    received: float | None = None
    sent: float | None = None


@dataclass(frozen=True)
class Sample:
    """The machine, and this run's tree of processes, over the time since the sample before.

    Attributes:
        at: When, in seconds since 1970.
        cpu: Percent of all cores together that worked.
        cores: The same for each core.
        io_wait: Percent of the time of all cores that they were idle and waited for disks.
        memory: Percent of the machine's memory that is in use.
        memory_used: The same in bytes.
        read: Bytes a second from the disks.
        written: Bytes a second to the disks.
        received: Bytes a second from the network.
        sent: Bytes a second to the network.
        own_cpu: Percent of one core that the run's processes used together; 200 is two whole cores.
        own_memory: Bytes of memory that they hold.
        gpus: Each GPU of the machine; empty where there is none.
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

    def line(self) -> str:
        """Returns the sample as one line of JSON."""
        return json.dumps(vars(self), default=vars, separators=(",", ":"))

    @classmethod
    def parsed(cls, line: str) -> Self:
        """Reads what `line` wrote."""
        values: dict[str, Any] = json.loads(line)
        gpus = tuple(Gpu(**gpu) for gpu in values.pop("gpus"))
        return cls(**{**values, "cores": tuple(values["cores"])}, gpus=gpus)


@dataclass(frozen=True)
class StepTimes:
    """Where the time of one training step went, in seconds.

    Attributes:
        step: Optimizer steps of the run before it.
        epoch: From 1.
        at: When it ended, in seconds since 1970.
        data: Waiting for the batch.
        move: Moving the batch to the device.
        forward: Logits and loss.
        backward: Gradients.
        record: What the debugger looked at.
        optimizer: New weights.
        logging: Metrics, and Lightning's own work.
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
        """All of it."""
        return float(sum(getattr(self, part) for part in PARTS))

    def line(self) -> str:
        """Returns the times as one line of JSON."""
        parts = ",".join(f'"{part}":{getattr(self, part):.6f}' for part in PARTS)
        return f'{{"step":{self.step},"epoch":{self.epoch},"at":{self.at:.3f},{parts}}}'

    @classmethod
    def parsed(cls, line: str) -> Self:
        """Reads what `line` wrote."""
        return cls(**json.loads(line))


#: The parts of a step, in their order.
PARTS = tuple(one.name for one in fields(StepTimes) if one.type == "float" and one.name != "at")


@dataclass(frozen=True)
class Phase:
    """A part of a run.

    Attributes:
        name: Such as `features` or `training`.
        began: In seconds since 1970.
        ended: The same.
    """

    name: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began

    def line(self) -> str:
        """Returns the phase as one line of JSON."""
        return json.dumps(vars(self))

    @classmethod
    def parsed(cls, line: str) -> Self:
        """Reads what `line` wrote."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Measurements:
    """All that was measured so far.

    Attributes:
        samples: Of the machine.
        steps: Of training.
        phases: Of the run, those that have ended.
    """

    samples: list[Sample] = field(default_factory=list)
    steps: list[StepTimes] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)

"""Rules over samples of the machine: is the hardware used, and what keeps it from being used?

Where AWS's definitions leave something open, the docstrings say what is done here. A data point is a sample of the
machine; `patience` is the number of them before the first evaluation, `window` that of a percentile or an average.
CPU, I/O wait, utilization and memory are percentages.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dogbreeds.debug.measurements import usage_percentiles
from dogbreeds.debug.record import Record
from dogbreeds.debug.rules.usage import Array, Usage, windows
from dogbreeds.debug.rules.verdict import NO_ISSUES, Rule, Verdict, not_applicable


class _OverUsage(Rule):
    """A rule that judges once there are as many data points, of as many GPUs, as it needs."""

    patience: int
    _gpus = 1

    def judge(self, record: Record) -> Verdict:
        usage = Usage(record)
        missing = usage.missing(self.patience, self._gpus)
        return not_applicable(missing) if missing else self._judge(usage)

    def _judge(self, usage: Usage) -> Verdict:
        raise NotImplementedError


@dataclass(frozen=True)
class LowGPUUtilization(_OverUsage):
    """A GPU works little, or on and off.

    Over a window of data points, the 95th percentile of its utilization is below `threshold_p95`; or it is not, and
    the 5th percentile is below `threshold_p5`.
    """

    threshold_p95: float = 70.0
    threshold_p5: float = 10.0
    window: int = 500
    patience: int = 1000

    def _judge(self, usage: Usage) -> Verdict:
        found = []
        for points in windows(len(usage), self.patience, self.window):
            low, high = np.percentile(usage.gpu[points], (5, 95), axis=0)
            step = usage.step(points.stop - 1)
            for number, (p5, p95) in enumerate(zip(low, high, strict=True)):
                said = f"the 5th and 95th percentile of GPU {number}'s utilization are {p5:.0f}% and {p95:.0f}%"
                if p95 < self.threshold_p95:
                    found.append((step, f"at step {step} {said}: it works little"))
                elif p5 < self.threshold_p5:
                    found.append((step, f"at step {step} {said}: it works on and off"))
        return self.verdict(found)


class _Bottleneck(_OverUsage):
    """A rule that fires where GPUs wait in more than `threshold` percent of the data points."""

    threshold: float

    def _waiting(self, usage: Usage) -> tuple[NDArray[np.bool_], str]:
        """Returns in which data points they do, and what for."""
        raise NotImplementedError

    def _judge(self, usage: Usage) -> Verdict:
        waiting, what = self._waiting(usage)
        share = 100 * float(waiting.mean())
        found = (usage.step(-1), f"for {share:.0f}% of the time up to step {usage.step(-1)} {what}")
        return self.verdict([found] if share > self.threshold else [])


@dataclass(frozen=True)
class CPUBottleneck(_Bottleneck):
    """The GPUs wait for the processor much of the time.

    More than `threshold` percent of all data points so far have a CPU above `cpu_threshold` and all GPUs below
    `gpu_threshold`.
    """

    threshold: float = 50.0
    gpu_threshold: float = 10.0
    cpu_threshold: float = 90.0
    patience: int = 100

    def _waiting(self, usage: Usage) -> tuple[NDArray[np.bool_], str]:
        what = f"the processor was above {self.cpu_threshold:g}% and every GPU below {self.gpu_threshold:g}%"
        return (usage.cpu > self.cpu_threshold) & (usage.busiest_gpu < self.gpu_threshold), what


@dataclass(frozen=True)
class IOBottleneck(_Bottleneck):
    """The GPUs wait for the disks much of the time.

    More than `threshold` percent of all data points so far have an I/O wait above `io_threshold` and all GPUs below
    `gpu_threshold`.
    """

    threshold: float = 50.0
    gpu_threshold: float = 70.0
    io_threshold: float = 50.0
    patience: int = 1000

    def _waiting(self, usage: Usage) -> tuple[NDArray[np.bool_], str]:
        slow = f"more than {self.io_threshold:g}% of the processor waited for disks"
        what = f"{slow} and every GPU was below {self.gpu_threshold:g}%"
        return (usage.io_wait > self.io_threshold) & (usage.busiest_gpu < self.gpu_threshold), what


@dataclass(frozen=True)
class GPUMemoryIncrease(_OverUsage):
    """A GPU's memory fills up.

    The moving average of its memory in use grows by more than `increase` percent of it. Each average is compared with
    that of a window earlier, the first one at `patience`.
    """

    increase: float = 10.0
    window: int = 500
    patience: int = 100

    def _judge(self, usage: Usage) -> Verdict:
        sums = np.concatenate([np.zeros((1, usage.memory.shape[1])), usage.memory.cumsum(axis=0)])

        def average(ends: NDArray[np.int64]) -> Array:
            starts = np.maximum(ends - self.window, 0)
            return np.asarray((sums[ends] - sums[starts]) / (ends - starts)[:, None])

        ends = np.array([points.stop for points in windows(len(usage), self.patience, self.window)])
        now, earlier = average(ends), average(np.maximum(ends - self.window, ends[0]))
        found = []
        for row, number in np.argwhere(now - earlier > self.increase):
            step = usage.step(int(ends[row]) - 1)
            grew = f"grew from {earlier[row, number]:.0f}% to {now[row, number]:.0f}%"
            found.append((step, f"up to step {step} the memory in use of GPU {number} {grew}"))
        return self.verdict(found)


@dataclass(frozen=True)
class BatchSize(_OverUsage):
    """Processor, GPUs and GPU memory are all little used: larger batches would fit.

    Over a window of data points, the 95th percentiles of CPU, utilization and memory of every GPU are below their
    thresholds.
    """

    cpu_threshold_p95: float = 70.0
    gpu_threshold_p95: float = 70.0
    gpu_memory_threshold_p95: float = 70.0
    window: int = 500
    patience: int = 100

    def _judge(self, usage: Usage) -> Verdict:
        columns, gpus = np.column_stack([usage.cpu, usage.gpu, usage.memory]), usage.gpu.shape[1]
        found = []
        for points in windows(len(usage), self.patience, self.window):
            p95 = np.percentile(columns[points], 95, axis=0)
            cpu, gpu, memory = p95[0], p95[1 : 1 + gpus].max(), p95[1 + gpus :].max()
            thresholds = self.cpu_threshold_p95, self.gpu_threshold_p95, self.gpu_memory_threshold_p95
            if all(used < limit for used, limit in zip((cpu, gpu, memory), thresholds, strict=True)):
                step = usage.step(points.stop - 1)
                used = f"CPU {cpu:.0f}%, GPU {gpu:.0f}%, GPU memory {memory:.0f}%"
                found.append((step, f"at step {step} the 95th percentiles are low: {used}"))
        return self.verdict(found)


@dataclass(frozen=True)
class LoadBalancing(_OverUsage):
    """One GPU works far more than another.

    The distance between the histograms of two GPUs' utilization is above `threshold`. Here it is the earth mover's
    distance with a bin for every value, the mean distance of the sorted utilizations, so that 49% is close to 51%: it
    is 0 where both work alike, and 1 where one always works and the other never does.
    """

    threshold: float = 0.5
    patience: int = 10
    _gpus = 2

    def _judge(self, usage: Usage) -> Verdict:
        ordered, mean = np.sort(usage.gpu, axis=0), usage.gpu.mean(axis=0)
        step, found = usage.step(-1), []
        for one, other in combinations(range(ordered.shape[1]), 2):
            distance = float(np.abs(ordered[:, one] - ordered[:, other]).mean() / 100)
            if distance > self.threshold:
                work = f"GPU {one} works at {mean[one]:.0f}% and GPU {other} at {mean[other]:.0f}%"
                found.append((step, f"up to step {step} {work} on average, a distance of {distance:.2f}"))
        return self.verdict(found)


@dataclass(frozen=True)
class OverallSystemUsage(Rule):
    """How much of the machine is used: this rule reports it and never fires."""

    def judge(self, record: Record) -> Verdict:
        used = usage_percentiles(record.measurements.samples)
        if not used:
            return not_applicable("no data points")
        parts = [f"{one.name} {one.p50:.3g}, {one.p95:.3g} and {one.p99:.3g} {one.unit}" for one in used]
        return Verdict(NO_ISSUES, message=f"50th, 95th and 99th percentiles: {'; '.join(parts)}")

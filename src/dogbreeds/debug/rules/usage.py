"""Samples as arrays, for the rules over them."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dogbreeds.debug.record import Record

Array = NDArray[np.float64]

_EVALUATIONS_PER_WINDOW = 4


class Usage:
    """The samples of a record as arrays, in percent: (points,) of all cores, (points, GPUs) of the GPUs.

    Samples with fewer GPUs than others, of a run that lost some or was resumed elsewhere, are left out.
    """

    def __init__(self, record: Record) -> None:
        every = record.measurements.samples
        gpus = max((len(sample.gpus) for sample in every), default=0)
        samples = [sample for sample in every if len(sample.gpus) == gpus]
        self._at = _array([sample.at for sample in samples])
        self._steps = record.measurements.steps
        self._ended = _array([step.at for step in self._steps])
        shape = (len(samples), gpus)
        self.cpu = _array([sample.cpu for sample in samples])
        self.io_wait = _array([sample.io_wait for sample in samples])
        self.gpu = _array([gpu.utilization for sample in samples for gpu in sample.gpus]).reshape(shape)
        self.memory = _array([gpu.memory_percent for sample in samples for gpu in sample.gpus]).reshape(shape)

    def __len__(self) -> int:
        return len(self._at)

    @property
    def busiest_gpu(self) -> Array:
        return np.asarray(self.gpu.max(axis=1))

    def missing(self, patience: int, gpus: int = 1) -> str:
        """Returns what a rule lacks to judge; empty if it can."""
        if not len(self):
            return "no data points"
        if self.gpu.shape[1] < gpus:
            return "only one GPU" if self.gpu.shape[1] else "no GPU on this machine"
        return f"only {len(self)} data points; {patience} are needed" if len(self) < patience else ""

    def step(self, point: int) -> int:
        """Returns the step that ended nearest to a point; 0 if there is none."""
        if not self._steps:
            return 0
        after = min(int(np.searchsorted(self._ended, self._at[point])), len(self._steps) - 1)
        before = max(after - 1, 0)
        nearer_before = self._at[point] - self._ended[before] <= self._ended[after] - self._at[point]
        return self._steps[before if nearer_before else after].step


def windows(points: int, patience: int, window: int) -> Iterator[slice]:
    """Yields the points of each evaluation: the last `window` of them, whenever a quarter of those is new.

    There are `patience` points before the first evaluation, which may have fewer than `window`.
    """
    for end in range(max(patience, 1), points + 1, max(window // _EVALUATIONS_PER_WINDOW, 1)):
        yield slice(max(0, end - window), end)


def _array(values: Sequence[float]) -> Array:
    return np.array(values, dtype=np.float64)

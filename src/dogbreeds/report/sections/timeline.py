"""The time of a run without the pauses between a stop and its resumption."""

from collections.abc import Sequence

import numpy as np

from dogbreeds.debug.measurements import START_UP, Measurements, Phase


class Timeline:
    """Turns times of day into seconds of running.

    A run that was resumed the next day would otherwise be two dots at the ends of an empty chart.
    """

    def __init__(self, measurements: Measurements) -> None:
        times = [one.at for one in (*measurements.samples, *measurements.steps)]
        times = sorted(times + [time for phase in measurements.phases for time in (phase.began, phase.ended)])
        starts = sorted(phase.began for phase in measurements.phases if phase.name == START_UP) or times[:1]
        self._clock: list[float] = []
        self._running: list[float] = []
        elapsed = 0.0
        for start, following in zip(starts, [*starts, float("inf")][1:], strict=True):
            end = max([time for time in times if start <= time < following], default=start)
            self._clock += [start, end]
            self._running += [elapsed, elapsed + end - start]
            elapsed += end - start
        self.starts, self.seconds = starts, elapsed

    def of(self, times: Sequence[float]) -> list[float]:
        return [float(second) for second in np.interp(times, self._clock, self._running)] if self._clock else []

    def span(self, phase: Phase) -> tuple[float, float]:
        began, ended = self.of([phase.began, phase.ended])
        return began, ended


def outermost(phases: Sequence[Phase]) -> list[Phase]:
    """Returns the phases that are not part of another, in order: validations are part of the training."""
    found: list[Phase] = []
    for phase in sorted(phases, key=lambda phase: (phase.began, -phase.ended)):
        if not found or phase.ended > found[-1].ended:
            found.append(phase)
    return found

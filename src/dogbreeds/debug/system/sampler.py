"""The thread that samples."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Self

from dogbreeds.debug.measurements import Sample
from dogbreeds.debug.system.gpus import Gpus
from dogbreeds.debug.system.machine import Machine
from dogbreeds.files import Appender

log = logging.getLogger(__name__)

# The operating system counts processor time in ticks of 10 ms: over less than ten of them percentages mean nothing.
_SHORTEST_INTERVAL = 0.1
# Seconds that a run waits at its end for a sample under way, such as one that hangs in a driver.
_LONGEST_WAIT = 5.0


class SystemSampler:
    """Appends a `Sample` of the machine to a file at regular times while its `with` block runs, and one at its end.

    It never stops the run: where sampling fails, this is logged once and there are no more samples.

    Attributes:
        samples: What was sampled so far.
    """

    def __init__(self, path: Path, interval: float) -> None:
        """Takes where and how often.

        Args:
            path: The file, to which a continued run appends; its directory is made.
            interval: Seconds from one sample to the next; the first one is taken after this time.
        """
        self.samples: list[Sample] = []
        self._path, self._interval = path, interval
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system-sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()
        self._thread.join(_LONGEST_WAIT)

    def _run(self) -> None:
        try:
            self._sample()
        except Exception:
            log.exception("The machine is not measured any more; the run goes on.")

    def _sample(self) -> None:
        with closing(Appender(self._path, every=1)) as file, closing(Gpus()) as gpus:
            machine = Machine(gpus)
            start, number = time.monotonic(), 1
            # Times are counted from the start, so that the time a sample takes does not add up. Those that a
            # suspended machine missed are left out.
            while not self._left.wait(max(0.0, start + number * self._interval - time.monotonic())):
                self._keep(machine.sample(), file)
                number = max(number, int((time.monotonic() - start) / self._interval)) + 1
            if time.monotonic() - machine.sampled >= _SHORTEST_INTERVAL:
                self._keep(machine.sample(), file)

    def _keep(self, sample: Sample, file: Appender) -> None:
        self.samples.append(sample)
        file.add(sample.line())

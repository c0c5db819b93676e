"""The thread that samples the machine."""

import logging
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Self

from dogbreeds.debug.measurements import Sample
from dogbreeds.debug.system.gpus import Gpus
from dogbreeds.debug.system.machine import Machine
from dogbreeds.errors import PlaceError
from dogbreeds.files import Appender

log = logging.getLogger(__name__)

# The operating system counts processor time in ticks of 10 ms: over fewer than ten of them percentages mean nothing.
_MIN_SECONDS = 0.1
# A sample may hang in a driver: the end of a run waits no longer than this for it.
_MAX_WAIT_SECONDS = 5.0


class SystemSampler:
    """Appends a `Sample` of the machine to a file at regular times while its `with` block runs, and one at its end.

    It never stops the run: when sampling fails, that is logged once and there are no more samples.

    A resumed run appends to the file, whose directory is made. The first sample is taken after `interval` seconds.
    """

    def __init__(self, path: Path, interval: float) -> None:
        self.samples: list[Sample] = []
        self._path, self._interval = path, interval
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system-sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()
        self._thread.join(_MAX_WAIT_SECONDS)

    def _run(self) -> None:
        try:
            with closing(Appender(self._path, every=1)) as file, closing(Gpus()) as gpus:
                machine = Machine(gpus)
                start, number = time.monotonic(), 1
                # Times count from the start, so that the time of sampling does not add up. A machine that was
                # suspended skips those that it missed.
                while not self._left.wait(max(0.0, start + number * self._interval - time.monotonic())):
                    self._keep(machine.sample(), file)
                    number = max(number, int((time.monotonic() - start) / self._interval)) + 1
                if time.monotonic() - machine.sampled >= _MIN_SECONDS:
                    self._keep(machine.sample(), file)
        except PlaceError as error:
            log.warning("%s The machine is no longer sampled.", error)
        except Exception:
            log.exception("The machine is no longer sampled; the run continues.")

    def _keep(self, sample: Sample, file: Appender) -> None:
        self.samples.append(sample)
        file.add(sample.line())

"""Where the time of a run goes: its phases, and the parts of each training step."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import Profiler

from dogbreeds.debug.measurements import PARTS, Phase, StepTimes
from dogbreeds.files import Appender, read_lines, yaml_beside
from dogbreeds.run_directory import PHASES, STEPS

# As many say as much about a run as a million, and neither memory nor page has room for more.
_MAX_STEPS = 20_000
_FLUSH_EVERY = 200
_ACTIONS: Mapping[str, str] = yaml_beside(__file__, "actions.yaml")


class Phases:
    """The phases of a run, in memory and, with a run directory, in a file."""

    def __init__(self, run_dir: Path | None = None) -> None:
        """Starts with the phases of a run that is resumed."""
        self.ended = read_lines(run_dir / PHASES, Phase.parsed) if run_dir else []
        self._before = len(self.ended)
        self._file = None if run_dir is None else Appender(run_dir / PHASES, every=1)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.time()
        try:
            yield
        finally:
            self.add(Phase(name, began, time.time()))

    def add(self, phase: Phase) -> None:
        self.ended.append(phase)
        if self._file is not None:
            self._file.add(phase.line())

    def seconds(self, *names: str) -> float:
        """Returns the seconds of all phases of these names since the program began."""
        return sum(phase.seconds for phase in self.ended[self._before :] if phase.name in names)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class StepProfiler(Profiler):
    """Lightning's profiler of one step after another: adds the time between two actions to the innermost one's part.

    `begin_step` is called before the batch of a step is fetched, `synchronize` before the clock is read; `parts` are
    the seconds of each part of the step so far.
    """

    def __init__(self, begin_step: Callable[[], None], synchronize: Callable[[], None]) -> None:
        super().__init__()
        self._begin_step, self._synchronize = begin_step, synchronize
        self.parts = dict.fromkeys(PARTS, 0.0)
        self._running: list[str] = []
        self._last = 0.0

    def start(self, action_name: str) -> None:
        part = _part(action_name)
        if part is None:
            return
        if part == "data":
            self._lap()
            self._begin_step()
        self._lap()
        self._running.append(part)

    def stop(self, action_name: str) -> None:
        if self._running and _part(action_name) == self._running[-1]:
            self._lap()
            self._running.pop()

    def restart(self) -> None:
        """Leaves out the time since the last action."""
        self._running.clear()
        self._last = time.perf_counter()

    def _lap(self) -> None:
        self._synchronize()
        now = time.perf_counter()
        self.parts[self._running[-1] if self._running else "logging"] += now - self._last
        self._last = now


def _part(action: str) -> str | None:
    return _ACTIONS.get(action[action.rfind(".") :])


class StepTimeline(pl.Callback):
    """Times the parts of training steps, and the validations between them.

    On a GPU, where work is only handed over, waiting for it would slow training down: there the steps on the
    recorder's schedule, every `gpu_every` optimizer steps, are timed, with waiting, and the others not at all. The
    profiler must be the Trainer's.
    """

    def __init__(self, run_dir: Path, phases: Phases, *, gpu_every: int) -> None:
        self.profiler = StepProfiler(self._begin_step, self._synchronize)
        self.steps: list[StepTimes] = []
        self._run_dir, self._phases, self._every, self._gpu_every = run_dir, phases, 1, gpu_every
        self._file: Appender | None = None
        self._gpu = False
        self._validation_began = 0.0
        self._trainer: pl.Trainer | None = None
        self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._file, self._trainer = Appender(self._run_dir / STEPS, _FLUSH_EVERY), trainer
        self._gpu = pl_module.device.type == "cuda"
        steps = int(min(trainer.estimated_stepping_batches, 1e12))
        self._every = max(self._gpu_every if self._gpu else 1, -(-steps // _MAX_STEPS))
        self._step = trainer.global_step

    def on_train_epoch_start(self, *args: Any) -> None:
        """Leaves out the time between two epochs."""
        self.profiler.restart()

    def on_train_epoch_end(self, *args: Any) -> None:
        self._begin_step()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin_step()
        self._validation_began = time.time()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes the validation, which belongs to no step."""
        if self._file is not None:
            self._phases.add(Phase("validation", self._validation_began, time.time()))
        self.profiler.parts = dict.fromkeys(PARTS, 0.0)
        self.profiler.restart()

    def _synchronize(self) -> None:
        if self._gpu and self._step % self._every == 0:
            torch.cuda.synchronize()

    def _begin_step(self) -> None:
        """Writes the step that has ended, if an optimizer step was taken and is one of those that are timed."""
        parts = self.profiler.parts
        if self._file is None or self._trainer is None or not parts["optimizer"]:
            return
        if self._step % self._every == 0:
            epoch, rounded = self._trainer.current_epoch + 1, {part: round(parts[part], 6) for part in PARTS}
            times = StepTimes(self._step, epoch, round(time.time(), 3), **rounded)
            self.steps.append(times)
            self._file.add(times.line())
        self._step = self._trainer.global_step
        self.profiler.parts = dict.fromkeys(PARTS, 0.0)
        if self._gpu and self._step % self._every == 0:
            # What is left to do of steps that were not timed is no part of the one that is.
            torch.cuda.synchronize()
            self.profiler.restart()

    def on_fit_end(self, *args: Any, **kwargs: Any) -> None:
        self._begin_step()
        if self._file is not None:
            self._file.close()
            self._file = None

    on_exception = on_fit_end

"""Where the time of a run goes: its phases, and the parts of each training step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.optim import Optimizer

from dogbreeds.debug.measurements import PARTS, Phase, StepTimes
from dogbreeds.files import Appender, whole_lines
from dogbreeds.model.classifier import BreedClassifier
from dogbreeds.run_directory import PHASES, STEPS

# As many say as much about a run as a million, and neither memory nor page has room for more.
_MOST_STEPS = 20_000
_FLUSH_EVERY = 200


class Phases:
    """The phases of a run, in memory and, with a run directory, in a file."""

    def __init__(self, run_dir: Path | None = None) -> None:
        """Begins with those of a run that is continued."""
        lines = whole_lines(run_dir / PHASES) if run_dir is not None else ()
        self.ended = [Phase.parsed(line) for line in lines]
        self._before = len(self.ended)
        self._file = None if run_dir is None else Appender(run_dir / PHASES, every=1)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a part of a run, whether it fails or not."""
        began = time.time()
        try:
            yield
        finally:
            self.add(Phase(name, began, time.time()))

    def add(self, phase: Phase) -> None:
        """Adds a phase that has ended."""
        self.ended.append(phase)
        if self._file is not None:
            self._file.add(phase.line())

    def seconds(self, *names: str) -> float:
        """Returns how long the phases of these names took together, since the program began."""
        return sum(phase.seconds for phase in self.ended[self._before :] if phase.name in names)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class StepTimeline(pl.Callback):
    """Times the parts of training steps, and the validations between them.

    On a GPU, where work is only handed over, waiting for it would slow training down: there the steps on the
    recorder's schedule are timed, with waiting, and the others not at all.

    Attributes:
        steps: What was timed so far.
    """

    def __init__(self, run_dir: Path, phases: Phases, *, gpu_every: int) -> None:
        """Takes where it is written.

        Args:
            run_dir: The steps go there.
            phases: The validations go there.
            gpu_every: Optimizer steps from one timed step to the next, on a GPU.
        """
        self.steps: list[StepTimes] = []
        self._run_dir, self._phases, self._every, self._gpu_every = run_dir, phases, 1, gpu_every
        self._file: Appender | None = None
        self._waits = False
        self._parts = dict.fromkeys(PARTS, 0.0)
        self._last = self._validation_began = 0.0
        self._trainer: pl.Trainer | None = None
        self._step = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listens to the module's steps."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, BreedClassifier)
        self._file, self._trainer = Appender(self._run_dir / STEPS, _FLUSH_EVERY), trainer
        self._waits = pl_module.device.type == "cuda"
        self._every = max(self._gpu_every if self._waits else 1, -(-pl_module.steps // _MOST_STEPS))
        self._step = trainer.global_step
        pl_module.observers.append(self)

    def lap(self, part: str) -> None:
        """Gives the time since the last call to a part of the step; `data` begins a step."""
        if part == "data":
            self._complete()
        if self._waits and self._step % self._every == 0:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self._parts[part] += now - self._last
        self._last = now

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Gives what Lightning did since the last step to that step."""
        if self._file is not None:
            self.lap("logging")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Gives the metrics to the step."""
        if self._file is not None:
            self.lap("logging")

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Gives what Lightning does around an optimizer step to it; the callbacks that follow are the debugger's."""
        if self._file is not None:
            self.lap("optimizer")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves out what lies between two epochs."""
        self._last = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of a validation."""
        self._complete()
        self._validation_began = time.time()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes the validation, which belongs to no step."""
        if self._file is not None:
            self._phases.add(Phase("validation", self._validation_began, time.time()))
        self._last = time.perf_counter()

    def _complete(self) -> None:
        """Writes the step that has ended, if it was one of those that are timed."""
        if self._file is None or self._trainer is None or not self._parts["optimizer"]:
            return
        if self._step % self._every == 0:
            epoch, at = self._trainer.current_epoch + 1, round(time.time(), 3)
            times = StepTimes(self._step, epoch, at, **{part: round(self._parts[part], 6) for part in PARTS})
            self.steps.append(times)
            self._file.add(times.line())
        self._step = self._trainer.global_step
        self._parts = dict.fromkeys(PARTS, 0.0)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the rest."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Writes what there is when a run is stopped."""
        self._close()

    def _close(self) -> None:
        self._complete()
        if self._file is not None:
            self._file.close()
            self._file = None

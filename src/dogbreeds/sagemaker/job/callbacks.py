"""What follows a training in a job: a line of numbers for each epoch, checkpoints, a look at who still waits."""

from __future__ import annotations

import os

import pytorch_lightning as pl

from dogbreeds.errors import UserError
from dogbreeds.sagemaker.protocol.metrics import METRICS, metric_line
from dogbreeds.sagemaker.protocol.snapshots import Due, Snapshots


class Orphaned(UserError):
    """The program that started this one has ended: the job was stopped."""

    # What a shell says of a program that ended by SIGTERM, which the toolkit gets and does not hand on.
    exit_code = 143


class Parent:
    """The process that started this one."""

    def __init__(self) -> None:
        """Remembers it."""
        self._pid = os.getppid()

    def check(self) -> None:
        """Ends the work of a job that was stopped.

        Raises:
            Orphaned: It has ended.
        """
        if os.getppid() != self._pid:
            raise Orphaned("The job was stopped.")


class MetricLines(pl.Callback):
    """Prints the numbers of each epoch for the service to read."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints those of the epoch that ended."""
        if trainer.is_global_zero:
            measured = {name: float(value) for name, value in trainer.callback_metrics.items() if name in METRICS}
            row = {"epoch": trainer.current_epoch + 1, "lr": trainer.optimizers[0].param_groups[0]["lr"]}
            print(metric_line({**row, **measured}), flush=True)


class Keeper(pl.Callback):
    """Between two epochs, keeps what there is of a run, and ends one that nobody waits for any more.

    The file to continue from is written at the very end of an epoch, so the beginning of the next one is the time.
    """

    def __init__(self, parent: Parent, snapshots: Snapshots | None, seconds: float) -> None:
        """Takes what to look at.

        Args:
            parent: Whose end ends the run.
            snapshots: Of the run directory; None keeps nothing.
            seconds: From one snapshot to the next, at least.
        """
        self._parent, self._snapshots, self._due = parent, snapshots, Due(seconds)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the epochs that have ended, if it is time."""
        if trainer.current_epoch and self._due.now():
            self._save(trainer)
        self._parent.check()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the whole training."""
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if self._snapshots is not None and trainer.is_global_zero:
            self._snapshots.save()

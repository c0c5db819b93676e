"""Lightning callbacks of a job: metric lines for the service, snapshots, and an end when the job is stopped."""

import os
import time

import pytorch_lightning as pl

from dogbreeds.errors import UserError
from dogbreeds.sagemaker.protocol.metrics import METRICS, metric_line
from dogbreeds.sagemaker.protocol.snapshots import Snapshots


class JobStopped(UserError):
    """The toolkit that started this program has ended: the job was stopped."""

    # 128 + SIGTERM: the toolkit gets the signal and does not pass it on.
    exit_code = 143


class ParentWatch:
    """Notices when the process that started this one ends."""

    def __init__(self) -> None:
        self._pid = os.getppid()

    def check(self) -> None:
        """Ends the work of a job that was stopped."""
        if os.getppid() != self._pid:
            raise JobStopped("The job was stopped.")


class MetricLines(pl.Callback):
    """Prints the metrics of each epoch for the service to read."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            measured = {name: float(value) for name, value in trainer.callback_metrics.items() if name in METRICS}
            row = {"epoch": trainer.current_epoch + 1, "lr": trainer.optimizers[0].param_groups[0]["lr"]}
            print(metric_line({**row, **measured}), flush=True)


class SnapshotCallback(pl.Callback):
    """Saves the run between two epochs at least `seconds` apart, and ends it once the job is stopped.

    The checkpoint to resume from is written at the very end of an epoch, so snapshots are made at the start of the
    next one. Without snapshots, nothing is saved.
    """

    def __init__(self, parent: ParentWatch, snapshots: Snapshots | None, seconds: float) -> None:
        self._parent, self._snapshots, self._seconds = parent, snapshots, seconds
        self._saved = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch and time.monotonic() - self._saved >= self._seconds:
            self._save(trainer)
        self._parent.check()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if self._snapshots is not None and trainer.is_global_zero:
            self._snapshots.save()
        self._saved = time.monotonic()

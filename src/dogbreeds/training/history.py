"""The history of a run, epoch by epoch: history.csv, and a plain line where there is no progress bar."""

import logging
import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from dogbreeds.files import write_csv

log = logging.getLogger(__name__)

_MEASURED = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/top5_accuracy", "val/macro_f1")
COLUMNS = ("epoch", "step", "lr", *_MEASURED, "seconds")


class History(pl.Callback):
    """Keeps one row per epoch in the checkpoint and in history.csv, so that a resumed run continues both."""

    def __init__(self, path: Path, *, announce: bool = True) -> None:
        self.path, self.announce = path, announce
        self.rows: list[dict[str, float]] = []
        self._epoch_began = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        # An epoch without validation has no number for it.
        measured = dict.fromkeys(COLUMNS, math.nan)
        measured |= {name: float(value) for name, value in trainer.callback_metrics.items() if name in COLUMNS}
        row = {
            **measured,
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(time.perf_counter() - self._epoch_began, 4),
        }
        self.add(row)
        if self.announce and trainer.progress_bar_callback is None:
            numbers = [row[name] for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy")]
            words = "epoch %3d/%d  train loss %.4f accuracy %.3f  valid loss %.4f accuracy %.3f"
            log.info(words, row["epoch"], trainer.max_epochs, *numbers)

    def add(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        write_csv(self.path, COLUMNS, self.rows)

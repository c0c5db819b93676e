"""Fitting with Lightning: what a run keeps, and what happens when it is stopped."""

import logging
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason
from torch import Tensor

from dogbreeds.debug.timeline import StepTimeline
from dogbreeds.errors import UserError
from dogbreeds.machine import compute_threads
from dogbreeds.model.classifier import BreedClassifier
from dogbreeds.model.exact import ExactPath
from dogbreeds.model.metrics import evaluate
from dogbreeds.model.network import Network
from dogbreeds.model.rows import computed
from dogbreeds.overrides import literal
from dogbreeds.run_directory import CHECKPOINTS, HISTORY
from dogbreeds.schema import TrainConfig
from dogbreeds.training.checkpoints import LAST, SameStart
from dogbreeds.training.datamodule import BreedDataModule
from dogbreeds.training.features import Features
from dogbreeds.training.history import COLUMNS, History
from dogbreeds.training.trainer import new_callbacks, new_loggers, new_trainer

log = logging.getLogger(__name__)


class NeverFiniteError(UserError):
    """A run whose validation loss was never a number."""


#: Called after each epoch with its row of the history; True ends the training.
Report = Callable[[dict[str, float]], bool]


def threads_of(config: TrainConfig) -> int:
    """Returns how many threads a run trains with: a head alone is small products, a tail is worth all threads."""
    return 1 if config.model.unfreeze is None else torch.get_num_threads()


class BestWeights(Callback):
    """Keeps the weights of the lowest validation loss; puts them back, and into a checkpoint, when training ends."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._loss = math.inf
        self._weights: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self._loss, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loss, self._weights = state_dict["loss"], state_dict["weights"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = float(trainer.callback_metrics.get("val/loss", math.nan))
        if loss < self._loss:
            self._loss = loss
            self._weights = {name: value.clone() for name, value in pl_module.state_dict().items()}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._weights:
            pl_module.load_state_dict(self._weights)
            if self._path is not None:
                trainer.save_checkpoint(self._path, weights_only=True)


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that a resumed run does not train past."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True


class _EpochReport(Callback):
    """Reports the row of each epoch, and stops where the answer is True; follows the history."""

    def __init__(self, history: History, report: Report) -> None:
        self._history, self._report = history, report

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._report(self._history.rows[-1]):
            trainer.should_stop = True


def fit(
    config: TrainConfig,
    data: BreedDataModule,
    network: Network,
    class_weights: Tensor | None,
    watching: Sequence[Callback] = (),
    resumed: Path | None = None,
) -> History:
    """Trains with Lightning, from the checkpoint `resumed` if there is one; logs go to the run directory.

    Leaves the best weights by validation loss in the network, in evaluation mode. Returns the history, which has no
    rows in processes of DDP other than the first.

    Raises:
        NeverFiniteError: The validation loss was never a number.
    """
    run_dir = Path(config.run_dir)
    last = run_dir / CHECKPOINTS / LAST
    history = History(run_dir / HISTORY)
    callbacks = [
        *watching,
        history,
        BestWeights(last.with_name("best.ckpt")),
        SameStart(data),
        # The newest epoch, from which a run is resumed.
        ModelCheckpoint(last.parent, last.stem, save_on_train_epoch_end=True, enable_version_counter=False),
    ]
    if sys.stdout.isatty() and config.trainer.arguments.get("enable_progress_bar", True):
        callbacks.append(RichProgressBar())
    profiler = next((callback.profiler for callback in watching if isinstance(callback, StepTimeline)), None)
    trainer = new_trainer(config, _all(config, callbacks), new_loggers(config), profiler)
    for logger in trainer.loggers:
        logger.log_hyperparams(literal(asdict(config)))
    if resumed:
        log.info("resuming from %s", resumed)
    return _run(config, trainer, data, network, class_weights, history, resumed)


def fit_trial(
    config: TrainConfig, data: BreedDataModule, network: Network, class_weights: Tensor | None, report: Report
) -> History:
    """Does the same for one trial of a search: the same arithmetic, and nothing on disk but the history."""
    history = History(Path(config.run_dir) / HISTORY, announce=False)
    trainer = new_trainer(config, _all(config, [history, BestWeights(), _EpochReport(history, report)]))
    return _run(config, trainer, data, network, class_weights, history)


def fit_exactly(config: TrainConfig, path: ExactPath, network: Network, inputs: Mapping[str, Features]) -> History:
    """Puts the exact solution of strength `weight_decay` into the head, in place of training it step by step."""
    solution = path.at(config.weight_decay)
    network.head.set_linear(solution.weight, solution.bias)
    history = History(Path(config.run_dir) / HISTORY)
    began = time.perf_counter()
    row = {"epoch": 1, "step": 0, "lr": 0.0}
    for split, name in (("train", "train"), ("valid", "val")):
        with torch.inference_mode():
            logits = computed(network.head, inputs[split].values)
        scores = evaluate(logits, inputs[split].labels, temperature=1.0, prefix=f"{name}/")
        row |= {column: scores[column] for column in COLUMNS if column in scores}
    history.add(row | {"seconds": round(time.perf_counter() - began, 4)})
    return history


def _all(config: TrainConfig, callbacks: Sequence[Callback]) -> list[Callback]:
    stopping = ResumableEarlyStopping("val/loss", patience=config.patience, check_on_train_epoch_end=True, strict=False)
    return [*callbacks, stopping, *new_callbacks(config)]


def _run(
    config: TrainConfig,
    trainer: pl.Trainer,
    data: BreedDataModule,
    network: Network,
    class_weights: Tensor | None,
    history: History,
    resumed: Path | None = None,
) -> History:
    model = BreedClassifier(
        network,
        lr=config.lr,
        tail_lr=config.lr * config.model.unfreeze_lr_scale,
        optimizer=config.optimizer,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        class_weights=None if class_weights is None else class_weights.tolist(),
        seed=config.seed,
    )
    try:
        with compute_threads(threads_of(config)):
            trainer.fit(model, datamodule=data, ckpt_path=resumed, weights_only=True)
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    model.cpu().eval()
    if trainer.is_global_zero and not history.rows:
        raise UserError("Training ended before its first validation, so there is no best model: let it train longer.")
    if trainer.is_global_zero and not any(math.isfinite(row["val/loss"]) for row in history.rows):
        raise NeverFiniteError(f"The validation loss was never finite with lr={config.lr}: try a smaller one.")
    return history

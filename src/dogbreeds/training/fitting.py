"""Fitting with Lightning: the device, the Trainer, what it keeps, and what happens when it is stopped."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    ModelCheckpoint,
    ProgressBar,
    RichProgressBar,
)
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.installation import command
from dogbreeds.machine import compute_threads
from dogbreeds.model.classifier import BreedClassifier
from dogbreeds.model.exact import ExactPath
from dogbreeds.model.metrics import evaluate
from dogbreeds.model.network import Network
from dogbreeds.run_directory import CHECKPOINTS, HISTORY
from dogbreeds.schema import TrainConfig
from dogbreeds.training.datamodule import BreedDataModule, Features
from dogbreeds.training.history import COLUMNS, History

log = logging.getLogger(__name__)


class Interrupted(UserError):
    """The person pressed Ctrl-C."""

    exit_code = 130


def quieten() -> None:
    """Leaves out what Lightning and torch say that a user of this project can do nothing about."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    if local_rank():
        logging.getLogger().setLevel(logging.WARNING)
    # Batches are indexed, not decoded, so Lightning's advice to add workers does not apply.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*number of training batches.*is smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    # Raised by torch itself about a caller inside Lightning.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)


def local_rank() -> int:
    """The position among this machine's processes of a run, which Lightning tells the ones that it starts."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def device_of(config: TrainConfig) -> torch.device:
    """Returns where the trunk and the handler run: the device that Lightning will choose.

    Raises:
        ConfigError: PyTorch finds no such device.
    """
    accelerator = config.trainer.accelerator
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return torch.device("cuda", local_rank())
    if accelerator in ("gpu", "mps", "auto") and torch.backends.mps.is_available():
        return torch.device("mps")
    if accelerator in ("cpu", "auto"):
        return torch.device("cpu")
    raise ConfigError(
        f"trainer.accelerator={accelerator}: PyTorch finds no such device here. Use trainer=auto or trainer=cpu."
    )


def threads_of(config: TrainConfig) -> int:
    """Returns how many threads a run trains with: a head alone is small products, a tail is worth all threads."""
    return 1 if config.model.unfreeze is None else torch.get_num_threads()


def steps_of(config: TrainConfig, photos: int) -> int:
    """Returns how many optimizer steps all epochs of a run take over so many training photos."""
    return config.epochs * -(-photos // config.batch_size)


class NeverFiniteError(UserError):
    """A run whose validation loss was never a number."""


#: Called after each epoch with its row of the history; True ends the training.
Report = Callable[[dict[str, float]], bool]


def fit(
    config: TrainConfig,
    data: BreedDataModule,
    network: Network,
    precision: str,
    class_weights: Tensor | None,
    watching: Sequence[Callback],
) -> History:
    """Trains with Lightning and leaves the best weights by validation loss in the network, ready to answer.

    Checkpoints and TensorBoard events go to the run directory; a run that has checkpoints there is resumed.

    Args:
        config: How.
        data: The batches.
        network: Trunk, tail and an initialised head.
        precision: Of the trunk.
        class_weights: float32 (classes,) for the loss, or None.
        watching: Callbacks that look on.

    Raises:
        Interrupted: Ctrl-C; what to type to continue is in the message.
        NeverFiniteError: The validation loss was never a number.
    """
    run_dir = Path(config.run_dir)
    checkpoints = run_dir / CHECKPOINTS
    history = History(run_dir / HISTORY)
    model = _classifier(config, data, network, precision, class_weights)
    callbacks: list[Callback] = [
        *watching,
        history,
        # Two files: the best by validation loss, and the newest, from which a run is resumed.
        ModelCheckpoint(checkpoints, "best", "val/loss", save_on_train_epoch_end=True, enable_version_counter=False),
        ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False),
    ]
    if sys.stdout.isatty():
        callbacks.append(RichProgressBar())
    trainer = _trainer(config, callbacks, TensorBoardLogger(run_dir, name="tensorboard", version=""))
    last = checkpoints / "last.ckpt"
    resumed = str(last) if config.resume and last.is_file() else None
    if resumed:
        log.info("resuming from %s", resumed)
    _run(config, trainer, model, data, resumed, f"Continue with: {command('train')} resume={run_dir}")
    if not trainer.is_global_zero:
        sys.exit(0)
    _check_finite(config, history)
    state = torch.load(checkpoints / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    model.cpu().eval().load_state_dict(state, strict=False)
    return history


def fit_trial(
    config: TrainConfig,
    data: BreedDataModule,
    network: Network,
    precision: str,
    class_weights: Tensor | None,
    report: Report,
) -> History:
    """Does the same for one trial of a search: the same arithmetic, and nothing on disk but the history.

    Raises:
        Interrupted: Ctrl-C.
        NeverFiniteError: The validation loss was never a number.
    """
    history = History(Path(config.run_dir) / HISTORY, announce=False)
    # Trials take features alone, and moving a trunk to a GPU and back costs more than a head's training.
    trained = replace(network, trunk=nn.Sequential())
    model = _classifier(config, data, trained, precision, class_weights)
    best = _Best(history, report)
    trainer = _trainer(config, [history, best], logger=False)
    _run(config, trainer, model, data, resumed=None, advice="")
    _check_finite(config, history)
    model.cpu().eval().load_state_dict(best.state, strict=False)
    return history


def fit_exactly(config: TrainConfig, path: ExactPath, network: Network, inputs: Mapping[str, Features]) -> History:
    """Puts the exact solution of strength `weight_decay` into the head, in place of training it step by step."""
    solution = path.at(config.weight_decay)
    network.head.set_linear(solution.weight, solution.bias)
    history = History(Path(config.run_dir) / HISTORY)
    began = time.perf_counter()
    row = {"epoch": 1, "step": 0, "lr": 0.0}
    for split, name in (("train", "train"), ("valid", "val")):
        with torch.inference_mode():
            logits = network.head(inputs[split].tensor)
        scores = evaluate(logits, inputs[split].labels, temperature=1.0).to_json(name)
        row |= {column: scores[column] for column in COLUMNS if column in scores}
    history.add(row | {"seconds": round(time.perf_counter() - began, 4)})
    return history


class _Best(Callback):
    """Keeps the best weights by validation loss in memory, and asks after each epoch whether to go on."""

    def __init__(self, history: History, report: Report) -> None:
        self._history, self._report = history, report
        self._least = math.inf
        self.state: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at the epoch that ended; the history has its row already."""
        row = self._history.rows[-1]
        if row["val/loss"] < self._least:
            self._least = row["val/loss"]
            kept = pl_module.state_dict().items()
            self.state = {name: value.clone() for name, value in kept if not name.startswith("trunk.")}
        if self._report(row):
            trainer.should_stop = True


def _classifier(
    config: TrainConfig, data: BreedDataModule, network: Network, precision: str, class_weights: Tensor | None
) -> BreedClassifier:
    return BreedClassifier(
        network,
        classes=len(data.folders.classes),
        learning_rate=config.lr,
        tail_learning_rate=config.lr * config.model.unfreeze_lr_scale,
        optimizer=config.optimizer,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        class_weights=class_weights,
        trunk_precision=precision,
        steps=steps_of(config, len(data.inputs["train"].labels)),
        seed=config.seed,
    )


def _run(
    config: TrainConfig,
    trainer: pl.Trainer,
    model: BreedClassifier,
    data: BreedDataModule,
    resumed: str | None,
    advice: str,
) -> None:
    data.inputs = {split: features.to(device_of(config)) for split, features in data.inputs.items()}
    try:
        with compute_threads(threads_of(config)):
            trainer.fit(model, datamodule=data, ckpt_path=resumed, weights_only=True)
    except SystemExit:
        if trainer.interrupted:
            raise Interrupted(f"\nStopped. {advice}") from None
        raise


def _check_finite(config: TrainConfig, history: History) -> None:
    if not any(math.isfinite(row["val/loss"]) for row in history.rows):
        raise NeverFiniteError(f"The validation loss was never finite with lr={config.lr}: try a smaller one.")


def _trainer(
    config: TrainConfig, callbacks: list[Callback], logger: TensorBoardLogger | Literal[False]
) -> pl.Trainer:
    trains_tail = config.model.unfreeze is not None
    mixed = trains_tail and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    automatic = "bf16-mixed" if mixed and config.trainer.accelerator != "cpu" else "32-true"
    devices = config.trainer.devices
    stop = EarlyStopping("val/loss", patience=config.patience, check_on_train_epoch_end=True)
    return pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=int(devices) if devices.isdigit() else devices,
        strategy=config.trainer.strategy,
        precision=automatic if config.trainer.precision == "auto" else config.trainer.precision,  # type: ignore[arg-type]
        max_epochs=config.epochs,
        callbacks=[*callbacks, stop],
        logger=logger,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        detect_anomaly=config.trainer.detect_anomaly,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_model_summary=False,
        use_distributed_sampler=False,
    )

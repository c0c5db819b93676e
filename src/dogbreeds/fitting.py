"""Fitting with Lightning: the device, the Trainer, what it keeps, and what happens when it is stopped."""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from dogbreeds.config import TrainConfig
from dogbreeds.data.datamodule import BreedDataModule
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.history import History
from dogbreeds.model.classifier import BreedClassifier
from dogbreeds.model.package import Network
from dogbreeds.threads import compute_threads

log = logging.getLogger(__name__)


class Interrupted(UserError):
    """The person pressed Ctrl-C."""

    exit_code = 130


def quieten() -> None:
    """Leaves out what Lightning and torch say that a user of this project can do nothing about."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    if _local_rank():
        logging.getLogger().setLevel(logging.WARNING)
    # Batches are indexed, not decoded, so Lightning's advice to add workers does not apply.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*number of training batches.*is smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    # Raised by torch itself about a caller inside Lightning.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)


def _local_rank() -> int:
    """The position among this machine's processes of a run, which Lightning tells the ones that it starts."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def device_of(config: TrainConfig) -> torch.device:
    """Returns where the trunk and the handler run: the device that Lightning will choose.

    Raises:
        ConfigError: PyTorch finds no such device.
    """
    accelerator = config.trainer.accelerator
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return torch.device("cuda", _local_rank())
    if accelerator in ("gpu", "mps", "auto") and torch.backends.mps.is_available():
        return torch.device("mps")
    if accelerator in ("cpu", "auto"):
        return torch.device("cpu")
    raise ConfigError(
        f"trainer.accelerator={accelerator}: PyTorch finds no such device here. Use trainer=auto or trainer=cpu."
    )


def fit(
    config: TrainConfig,
    data: BreedDataModule,
    network: Network,
    precision: str,
    class_weights: Tensor | None,
) -> History:
    """Trains with Lightning and leaves the best weights by validation loss in the network."""
    run_dir = Path(config.run_dir)
    checkpoints = run_dir / "checkpoints"
    history = History(run_dir / "history.csv")
    model = BreedClassifier(
        network,
        classes=len(data.folders.classes),
        learning_rate=config.lr,
        tail_learning_rate=config.lr * config.model.unfreeze_lr_scale,
        optimizer=config.optimizer,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        class_weights=class_weights,
        trunk_precision=precision,
        steps=config.epochs * -(-len(data.inputs["train"].labels) // config.batch_size),
        seed=config.seed,
    )
    data.inputs = {split: features.to(device_of(config)) for split, features in data.inputs.items()}
    trainer = _trainer(config, checkpoints, history)
    last = checkpoints / "last.ckpt"
    resumed = str(last) if config.resume and last.is_file() else None
    if resumed:
        log.info("resuming from %s", resumed)
    # A head alone is small products; a tail is worth all threads.
    threads = 1 if config.model.unfreeze is None else torch.get_num_threads()
    try:
        with compute_threads(threads):
            trainer.fit(model, datamodule=data, ckpt_path=resumed, weights_only=True)
    except SystemExit:
        if trainer.interrupted:
            raise Interrupted(f"\nStopped. Continue with: python train.py resume={run_dir}") from None
        raise
    if not trainer.is_global_zero:
        sys.exit(0)
    if not any(math.isfinite(row["val/loss"]) for row in history.rows):
        raise UserError(f"The validation loss was never finite with lr={config.lr}: try a smaller one.")
    state = torch.load(checkpoints / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    model.cpu().load_state_dict(state, strict=False)
    return history


def _trainer(config: TrainConfig, checkpoints: Path, history: History) -> pl.Trainer:
    on_terminal = sys.stdout.isatty()
    callbacks: list[Callback] = [
        history,
        EarlyStopping("val/loss", patience=config.patience, check_on_train_epoch_end=True),
        # Two files: the best by validation loss, and the newest, from which a run is resumed.
        ModelCheckpoint(checkpoints, "best", "val/loss", save_on_train_epoch_end=True, enable_version_counter=False),
        ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False),
    ]
    if on_terminal:
        callbacks.append(RichProgressBar())
    trains_tail = config.model.unfreeze is not None
    mixed = trains_tail and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    automatic = "bf16-mixed" if mixed and config.trainer.accelerator != "cpu" else "32-true"
    devices = config.trainer.devices
    return pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=int(devices) if devices.isdigit() else devices,
        strategy=config.trainer.strategy,
        precision=automatic if config.trainer.precision == "auto" else config.trainer.precision,  # type: ignore[arg-type]
        max_epochs=config.epochs,
        callbacks=callbacks,
        logger=TensorBoardLogger(config.run_dir, name="tensorboard", version=""),
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        detect_anomaly=config.trainer.detect_anomaly,
        enable_progress_bar=on_terminal,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )

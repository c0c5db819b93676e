"""Lightning's Trainer, loggers and callbacks, from the config."""

import inspect
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import HydraException
from hydra.utils import get_class, instantiate
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, Checkpoint, ProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import Profiler

from dogbreeds.errors import ConfigError
from dogbreeds.files import yaml_beside
from dogbreeds.schema import TrainConfig
from dogbreeds.trainer_arguments import devices_of
from dogbreeds.training.checkpoints import WholeCheckpoints

_IGNORED: list[str] = yaml_beside(__file__, "ignored.yaml")


def quieten() -> None:
    """Leaves out what Lightning and torch say that a user of this project can do nothing about."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    if not is_first_process():
        logging.getLogger().setLevel(logging.WARNING)
    for message in _IGNORED:
        warnings.filterwarnings("ignore", message=message)
    # Raised by torch itself about a caller inside Lightning.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)


def local_rank() -> int:
    """The position among this machine's processes of a run, which Lightning or torchrun tells the ones it starts."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first_process() -> bool:
    """Whether this process writes: the first of the first machine."""
    machine = os.environ.get("NODE_RANK") or os.environ.get("GROUP_RANK") or "0"
    return local_rank() == 0 and int(machine) == 0


def device_of(config: TrainConfig) -> torch.device:
    """Returns where the trunk and the predictor run: the device that Lightning gives this process."""
    device: torch.device = new_trainer(config).strategy.root_device
    return device


def new_trainer(
    config: TrainConfig,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    profiler: Profiler | None = None,
) -> pl.Trainer:
    chosen = config.trainer
    if chosen.precision == "16-mixed" and (chosen.accelerator == "cpu" or not torch.accelerator.is_available()):
        raise ConfigError("trainer.precision=16-mixed needs a GPU: use trainer.precision=auto, or bf16-mixed.")
    bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    mixed = config.model.unfreeze is not None and bf16 and chosen.accelerator != "cpu"
    given: dict[str, Any] = {
        "precision": ("bf16-mixed" if mixed else "32-true") if chosen.precision == "auto" else chosen.precision,
        "log_every_n_steps": 10,
        "num_sanity_val_steps": 0,
        "profiler": profiler,
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_model_summary": False,
        "plugins": [WholeCheckpoints(), *([LightningEnvironment()] if "SLURM_JOB_ID" in os.environ else [])],
        **chosen.arguments,
    }
    try:
        return pl.Trainer(
            accelerator=chosen.accelerator,
            devices=devices_of(chosen.devices) or "auto",
            strategy=chosen.strategy,
            max_epochs=config.epochs,
            callbacks=list(callbacks),
            logger=list(loggers),
            detect_anomaly=chosen.detect_anomaly,
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            use_distributed_sampler=False,
            default_root_dir=config.run_dir,
            **given,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        typed = "".join(f" trainer.{name}={value}" for name, value in chosen.arguments.items())
        raise ConfigError(
            f"trainer.accelerator={chosen.accelerator} trainer.devices={chosen.devices} "
            f"trainer.strategy={chosen.strategy}{typed}: {reason} trainer=auto takes the device that is here."
        ) from error


def new_loggers(config: TrainConfig) -> list[Logger]:
    """Returns the loggers of conf/logger; they write into the run directory where they are not told where to."""
    return _made("logger", config.logger, Logger, Path(config.run_dir))


def new_callbacks(config: TrainConfig) -> list[Callback]:
    return _made("callbacks", config.callbacks, Callback, None)


def _made(group: str, nodes: Mapping[str, Any], kind: type, save_dir: Path | None) -> list[Any]:
    made = []
    for name, node in nodes.items():
        if node is None:
            continue
        target = node.get("_target_") if isinstance(node, Mapping) else None
        if target is None:
            raise ConfigError(f"{group}.{name}: needs _target_, the name of a class.")
        try:
            found = get_class(target)
            if not issubclass(found, kind):
                raise ConfigError(f"{group}.{name}._target_={target}: is not a {kind.__name__} of Lightning.")
            takes_place = save_dir is not None and "save_dir" in inspect.signature(found).parameters
            made.append(instantiate({**({"save_dir": str(save_dir)} if takes_place else {}), **node}))
        except (ImportError, HydraException, TypeError, ValueError) as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            hint = f" pip install 'dogbreeds[{name}]'." if name in ("mlflow", "wandb") else ""
            raise ConfigError(f"{group}.{name}: {reason}{hint}") from error
    return made

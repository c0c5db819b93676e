"""The typed schema of a training run, and the one place where a config is checked.

conf/ is the only home of defaults: no field here has one. Hydra merges the YAML files into these types, so
an unknown key or a value of the wrong type never gets further than the command line; `check` looks at what
types cannot say, before anything is loaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dogbreeds.data.layout import find_photos
from dogbreeds.errors import ConfigError
from dogbreeds.model.names import BACKBONES

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine")
HEADS = ("linear", "mlp")
CLASS_WEIGHTS = ("none", "balanced")
ON_BAD_IMAGE = ("stop", "skip")
FEATURE_PRECISIONS = ("auto", "fp32", "bf16")
ENGINES = ("auto", "openvino", "cuda", "torch")
TRAINER_PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
RUN_CONFIG = "config.yaml"
_LARGEST_SEED = 2**32 - 1


@dataclass
class DataConfig:
    """Where the photos are and how they are read (conf/data)."""

    dir: str = MISSING
    on_bad_image: str = MISSING
    split_seed: int = MISSING
    views: int = MISSING
    workers: int | None = MISSING


@dataclass
class ModelConfig:
    """The frozen backbone and the new head (conf/model)."""

    backbone: str = MISSING
    weights: str = MISSING
    unfreeze: str | None = MISSING
    unfreeze_lr_scale: float = MISSING
    head: str = MISSING
    hidden: list[int] = MISSING
    dropout: float = MISSING
    class_weights: str = MISSING


@dataclass
class FeaturesConfig:
    """How the frozen trunk computes."""

    engine: str = MISSING
    precision: str = MISSING
    batch_size: int | None = MISSING


@dataclass
class CacheConfig:
    """Where computed features are kept, for all runs, and how much room they may take."""

    dir: str = MISSING
    max_gb: float = MISSING


@dataclass
class TrainerConfig:
    """What Lightning's Trainer is told (conf/trainer)."""

    accelerator: str = MISSING
    devices: str = MISSING
    strategy: str = MISSING
    precision: str = MISSING
    detect_anomaly: bool = MISSING
    one_batch: bool = MISSING


@dataclass
class TrainConfig:
    """Everything that one training run depends on (conf/train.yaml)."""

    lr: float = MISSING
    batch_size: int = MISSING
    epochs: int = MISSING
    seed: int = MISSING
    optimizer: str = MISSING
    weight_decay: float = MISSING
    schedule: str = MISSING
    patience: int = MISSING
    resume: str | None = MISSING
    run_dir: str = MISSING
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    features: FeaturesConfig = MISSING
    cache: CacheConfig = MISSING
    trainer: TrainerConfig = MISSING


@dataclass
class CacheCommandConfig:
    """What scripts/cache.py reads (conf/scripts/cache.yaml)."""

    action: str = MISSING
    days: float = MISSING
    cache: CacheConfig = MISSING


SCHEMAS: dict[str, type] = {"train": TrainConfig, "prepare_features": TrainConfig, "cache": CacheCommandConfig}


def key_names(schema: type, prefix: str = "") -> list[str]:
    """All settings of a schema in dotted form: `["lr", ..., "data.dir", ...]`."""
    names: list[str] = []
    hints = get_type_hints(schema)
    for field in fields(schema):
        kind = hints[field.name]
        if is_dataclass(kind) and isinstance(kind, type):
            names += key_names(kind, f"{prefix}{field.name}.")
        else:
            names.append(f"{prefix}{field.name}")
    return names


def load(composed: DictConfig, overrides: list[str]) -> TrainConfig:
    """Turns a composed config into a checked `TrainConfig`.

    With `resume=<run directory>` the run continues with the config it was started with, so that its result
    is the one that an uninterrupted run would have had; nothing else can be changed with it.

    Args:
        composed: What Hydra composed from conf/ and the command line.
        overrides: The command line's own overrides, to tell a change from a default.

    Raises:
        ConfigError: A setting is impossible, or `resume` does not name a run directory.
    """
    if composed.resume is None:
        return check(_typed(composed))
    directory = Path(composed.resume)
    others = [override for override in overrides if not override.startswith("resume=")]
    if others:
        raise ConfigError(
            f"resume={directory} continues that run with its own config, so {' '.join(others)} cannot apply. "
            "Leave it out, or start a new run with it."
        )
    saved = directory / RUN_CONFIG
    if not saved.is_file():
        raise ConfigError(f"resume={directory}: no {RUN_CONFIG} there, so it is not a run directory of train.py.")
    config = check(_typed(OmegaConf.load(saved)))
    config.resume = str(directory)
    config.run_dir = str(directory)
    return config


def save(config: TrainConfig, path: Path) -> None:
    """Writes the config as YAML that `load` reads back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes of a distributed run write the same file at once.
    temporary = path.with_suffix(f".{os.getpid()}.partial")
    OmegaConf.save(OmegaConf.structured(config), temporary)
    temporary.replace(path)


def _typed(composed: Any) -> TrainConfig:
    try:
        # A plain copy, so that keys added with + are unknown keys too.
        plain = OmegaConf.to_container(composed, resolve=True)
        merged = OmegaConf.merge(OmegaConf.structured(TrainConfig), plain)
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        lines = [line for line in str(error).splitlines() if "object_type=" not in line]
        raise ConfigError("\n".join(lines)) from error
    assert isinstance(config, TrainConfig)
    return config


def check(config: TrainConfig) -> TrainConfig:
    """Refuses what cannot work, listing everything that is wrong at once.

    Raises:
        ConfigError: One line per setting: what it is, and what it may be.
        DataError: `data.dir` is missing, empty, or holds one class only.
    """
    data, model, features, trainer = config.data, config.model, config.features, config.trainer
    problems = [
        *_below("lr", config.lr, 0, allow_equal=False),
        *_below("batch_size", config.batch_size, 1),
        *_below("epochs", config.epochs, 1),
        *_below("seed", config.seed, 0),
        *_below("weight_decay", config.weight_decay, 0),
        *_below("patience", config.patience, 1),
        *_below("features.batch_size", 1 if features.batch_size is None else features.batch_size, 1),
        *_below("data.views", data.views, 0),
        *_below("cache.max_gb", config.cache.max_gb, 0, allow_equal=False),
        *_below("data.workers", 0 if data.workers is None else data.workers, 0),
        *_below("model.unfreeze_lr_scale", model.unfreeze_lr_scale, 0, allow_equal=False),
        *_not_one_of("optimizer", config.optimizer, OPTIMIZERS),
        *_not_one_of("schedule", config.schedule, SCHEDULES),
        *_not_one_of("data.on_bad_image", data.on_bad_image, ON_BAD_IMAGE),
        *_not_one_of("model.head", model.head, HEADS),
        *_not_one_of("model.class_weights", model.class_weights, CLASS_WEIGHTS),
        *_not_one_of("features.engine", features.engine, ENGINES),
        *_not_one_of("features.precision", features.precision, FEATURE_PRECISIONS),
        *_not_one_of("trainer.precision", trainer.precision, TRAINER_PRECISIONS),
        *_not_one_of("trainer.accelerator", trainer.accelerator, ACCELERATORS),
        *_model_problems(model),
    ]
    if config.seed > _LARGEST_SEED:
        problems.append(f"seed={config.seed}: must be at most {_LARGEST_SEED}.")
    if not 0 <= model.dropout < 1:
        problems.append(f"model.dropout={model.dropout}: must be at least 0 and below 1.")
    if problems:
        raise ConfigError("\n".join(problems))
    find_photos(Path(data.dir))
    return config


def _model_problems(model: ModelConfig) -> list[str]:
    problems = _not_one_of("model.backbone", model.backbone, tuple(BACKBONES))
    if model.head == "mlp" and (not model.hidden or min(model.hidden) < 1):
        problems.append(f"model.hidden={model.hidden}: model.head=mlp needs one or more widths, such as [256].")
    if model.backbone in BACKBONES and model.unfreeze is not None:
        problems += _not_one_of("model.unfreeze", model.unfreeze, BACKBONES[model.backbone])
    if model.weights not in ("imagenet", "random") and not Path(model.weights).is_file():
        problems.append(f"model.weights={model.weights}: no such file. It may be imagenet, random or a file.")
    return problems


def _below(name: str, value: float, limit: float, *, allow_equal: bool = True) -> list[str]:
    # Written so that NaN, which compares false with everything, is refused too.
    if value < float("inf") and (value >= limit if allow_equal else value > limit):
        return []
    return [f"{name}={value}: must be {'at least' if allow_equal else 'above'} {limit} and finite."]


def _not_one_of(name: str, value: str, valid: tuple[str, ...]) -> list[str]:
    return [] if value in valid else [f"{name}={value}: must be one of {', '.join(valid)}."]

"""The typed schemas of conf/: what settings there are, and of which type.

conf/ is the only home of defaults: no field here has one. Hydra merges the YAML files into these types, so
an unknown key or a value of the wrong type never gets further than the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from omegaconf import MISSING

from dogbreeds.serve.limits import Limits


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
    examples: int = MISSING


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
class ManagedDebuggerConfig:
    """What is asked of SageMaker Debugger itself, in accounts that have it (debugger=aws)."""

    rules: dict[str, Any] = MISSING
    profiler_rules: dict[str, Any] = MISSING
    collections: dict[str, Any] = MISSING
    system_milliseconds: int = MISSING


@dataclass
class DebuggerConfig:
    """What training leaves on record, and which rules watch it (conf/debugger)."""

    record: bool = MISSING
    train_every: int = MISSING
    eval_every: int = MISSING
    flush_every: int = MISSING
    on_issue: str = MISSING
    smdebug: bool = MISSING
    managed: ManagedDebuggerConfig | None = MISSING
    rules: dict[str, Any] = MISSING


@dataclass
class ProfilerConfig:
    """What is measured of the machine and of time (conf/profiler)."""

    system_seconds: float | None = MISSING
    steps: bool = MISSING
    trace_steps: int = MISSING


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
    debugger: DebuggerConfig = MISSING
    profiler: ProfilerConfig = MISSING


@dataclass
class SearchConfig:
    """What a search varies, how, and for what (conf/hpo)."""

    strategy: str = MISSING
    trials: int | None = MISSING
    objective: str = MISSING
    min_epochs: int | None = MISSING
    space: dict[str, Any] = MISSING
    parallel: int = MISSING
    early_stopping: bool = MISSING
    warm_start: list[str] = MISSING
    one_job: bool = MISSING


@dataclass
class TrainCommandConfig(TrainConfig):
    """What train.py reads: a training run, and how to search for a better one."""

    best_of: str | None = MISSING
    hpo: SearchConfig = MISSING


@dataclass
class SagemakerConfig:
    """Where and on what jobs run (conf/sagemaker)."""

    rehearsal: bool = MISSING
    region: str | None = MISSING
    role: str | None = MISSING
    bucket: str | None = MISSING
    prefix: str = MISSING
    image: str | None = MISSING
    framework: str = MISSING
    framework_version: str = MISSING
    instance: str = MISSING
    instances: int = MISSING
    features_instance: str | None = MISSING
    trial_instance: str = MISSING
    volume_gb: int = MISSING
    hours: float = MISSING
    spot: bool = MISSING
    wait_hours: float = MISSING
    retries: int = MISSING
    checkpoint_seconds: float = MISSING
    subnets: list[str] = MISSING
    security_groups: list[str] = MISSING
    kms_key: str | None = MISSING
    isolated: bool = MISSING
    encrypt_traffic: bool = MISSING
    tags: dict[str, str] = MISSING
    environment: dict[str, str] = MISSING
    rehearsal_dir: str = MISSING
    faults: dict[str, Any] = MISSING


@dataclass
class LaunchCommandConfig(TrainCommandConfig):
    """What launch_sagemaker.py reads: what train.py reads, and where to run it."""

    attach: str | None = MISSING
    stop: str | None = MISSING
    sagemaker: SagemakerConfig = MISSING


@dataclass
class VariantConfig:
    """What serves an endpoint (conf/scripts/variant)."""

    kind: str = MISSING
    image: str | None = MISSING
    serving_version: str = MISSING
    instance: str | None = MISSING
    instances: int | None = MISSING
    min_instances: int | None = MISSING
    max_instances: int | None = MISSING
    target: float = MISSING
    scale_in_seconds: int = MISSING
    scale_out_seconds: int = MISSING
    capture_percent: int = MISSING
    volume_gb: int | None = MISSING
    download_seconds: int | None = MISSING
    startup_seconds: int | None = MISSING
    memory_mb: int | None = MISSING
    concurrency: int | None = MISSING
    output: str | None = MISSING


@dataclass
class DeployCommandConfig:
    """What scripts/deploy.py reads (conf/scripts/deploy.yaml)."""

    action: str = MISSING
    model: str | None = MISSING
    endpoint: str | None = MISSING
    yes: bool = MISSING
    sagemaker: SagemakerConfig = MISSING
    variant: VariantConfig = MISSING


@dataclass
class CachePlaceConfig:
    """Where computed features are kept, for a command that adds none."""

    dir: str = MISSING


@dataclass
class PredictCommandConfig:
    """What scripts/predict.py reads (conf/scripts/predict.yaml)."""

    model: str | None = MISSING
    endpoint: str | None = MISSING
    url: str | None = MISSING
    images: str | None = MISSING
    out: str | None = MISSING
    at_once: int = MISSING
    patience_seconds: float = MISSING
    cache: CachePlaceConfig = MISSING
    sagemaker: SagemakerConfig = MISSING


@dataclass
class ServeCommandConfig:
    """What scripts/serve.py reads (conf/scripts/serve.yaml)."""

    model: str = MISSING
    host: str = MISSING
    port: int = MISSING
    cache: CachePlaceConfig = MISSING
    limits: Limits = MISSING


@dataclass
class ExportCommandConfig:
    """What scripts/export.py reads (conf/scripts/export.yaml)."""

    model: str = MISSING
    format: str = MISSING
    out: str = MISSING
    images: str | None = MISSING


@dataclass
class CacheCommandConfig:
    """What scripts/cache.py reads (conf/scripts/cache.yaml)."""

    action: str = MISSING
    days: float = MISSING
    cache: CacheConfig = MISSING


SCHEMAS: dict[str, type] = {
    "train": TrainCommandConfig,
    "prepare_features": TrainCommandConfig,
    "launch": LaunchCommandConfig,
    "deploy": DeployCommandConfig,
    "predict": PredictCommandConfig,
    "serve": ServeCommandConfig,
    "export": ExportCommandConfig,
    "cache": CacheCommandConfig,
}


def key_types(schema: type, prefix: str = "") -> dict[str, Any]:
    """All settings of a schema in dotted form, with their types: `{"lr": float, ..., "data.dir": str, ...}`."""
    found: dict[str, Any] = {}
    hints = get_type_hints(schema)
    for field in fields(schema):
        kind = hints[field.name]
        if is_dataclass(kind) and isinstance(kind, type):
            found |= key_types(kind, f"{prefix}{field.name}.")
        else:
            found[f"{prefix}{field.name}"] = kind
    return found


def key_names(schema: type) -> list[str]:
    """All settings of a schema in dotted form: `["lr", ..., "data.dir", ...]`."""
    return list(key_types(schema))

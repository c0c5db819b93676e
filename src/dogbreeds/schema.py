"""The typed schemas of conf/: which settings there are, their types, and what each may be.

conf/ is the only home of defaults: no field here has one. Hydra merges the YAML files into these types, so
an unknown key or a value of the wrong type never gets further than the command line; `constraints.problems` checks
what stands beside a type. What several settings must be together is checked in config.py.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from dogbreeds.constraints import Matches, Range, above, at_least, one_of, settings
from dogbreeds.model.names import LIBRARIES, POOLS

_BUCKET = Matches(
    r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    "the name of a bucket, in small letters, without s3:// (what follows it in a URI is sagemaker.prefix)",
)
_INSTANCE = Matches(r"ml\..+", "an instance type that begins with ml., such as ml.g5.xlarge")


@dataclass
class DataConfig:
    """Where the photos are and how they are read (conf/data)."""

    dir: str
    labels: str | None
    on_bad_image: Annotated[str, one_of("stop", "skip")]
    exclude: str | None
    split_seed: int
    views: Annotated[int, at_least(0)]
    workers: Annotated[int | None, at_least(0)]


@dataclass
class ModelConfig:
    """The frozen backbone and the new head (conf/model)."""

    library: Annotated[str, one_of(*LIBRARIES)]
    backbone: str
    weights: str
    pool: Annotated[str, one_of(*POOLS)]
    # Photos are resized to resolution / crop pixels, which have to fit into memory.
    resolution: Annotated[int | None, Range(1, 2048)]
    crop: Annotated[float | None, Range(0.1, 1)]
    unfreeze: str | None
    unfreeze_lr_scale: Annotated[float, above(0)]
    head: Annotated[str, one_of("linear", "mlp")]
    hidden: list[int]
    dropout: Annotated[float, Range(0, 1, below=True)]
    class_weights: Annotated[str, one_of("none", "balanced")]
    examples: Annotated[int, at_least(0)]


@dataclass
class FeaturesConfig:
    """How the frozen trunk computes."""

    engine: Annotated[str, one_of("auto", "openvino", "cuda", "torch")]
    precision: Annotated[str, one_of("auto", "fp32", "bf16", "int8")]
    batch_size: Annotated[int | None, at_least(1)]
    mirror: bool


@dataclass
class CacheConfig:
    """Where computed features are kept, for all runs, and how much room they may take."""

    dir: str
    max_gb: Annotated[float, above(0)]


@dataclass
class TrainerConfig:
    """What Lightning's Trainer is told (conf/trainer)."""

    accelerator: Annotated[str, one_of("auto", "cpu", "gpu", "cuda", "mps")]
    devices: str
    strategy: Annotated[
        str, one_of("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")
    ]
    precision: Annotated[str, one_of("auto", "32-true", "bf16-mixed", "16-mixed")]
    detect_anomaly: bool
    one_batch: bool
    #: Further arguments, typed as `trainer.<argument>`.
    arguments: dict[str, Any]


@dataclass
class ManagedDebuggerConfig:
    """What is asked of SageMaker Debugger itself, in accounts that have it (debugger=aws)."""

    rules: dict[str, Any]
    profiler_rules: dict[str, Any]
    collections: dict[str, Any]
    system_milliseconds: int


@dataclass
class DebuggerConfig:
    """What training leaves on record, and which rules watch it (conf/debugger)."""

    record: bool
    train_every: Annotated[int, at_least(1)]
    eval_every: Annotated[int, at_least(1)]
    flush_every: Annotated[int, at_least(1)]
    on_issue: Annotated[str, one_of("tell", "stop")]
    smdebug: bool
    managed: ManagedDebuggerConfig | None
    rules: dict[str, Any]


@dataclass
class ProfilerConfig:
    """What is measured of the machine and of time (conf/profiler)."""

    system_seconds: Annotated[float | None, at_least(0.1)]
    steps: bool
    trace_steps: Annotated[int, at_least(0)]


@dataclass
class TrainConfig:
    """Everything that one training run depends on (conf/train.yaml)."""

    lr: Annotated[float, above(0)]
    batch_size: Annotated[int, at_least(1)]
    epochs: Annotated[int, at_least(1)]
    seed: Annotated[int, Range(0, 2**32 - 1)]
    optimizer: Annotated[str, one_of("adam", "adamw", "sgd", "exact")]
    weight_decay: Annotated[float, at_least(0)]
    schedule: Annotated[str, one_of("constant", "cosine")]
    patience: Annotated[int, at_least(1)]
    resume: str | None
    run_dir: str
    data: DataConfig
    model: ModelConfig
    features: FeaturesConfig
    cache: CacheConfig
    trainer: TrainerConfig
    logger: dict[str, Any]
    callbacks: dict[str, Any]
    debugger: DebuggerConfig
    profiler: ProfilerConfig


@dataclass
class SearchConfig:
    """What a search varies, how, and for what (conf/hpo)."""

    strategy: Annotated[str, one_of("grid", "random", "bayes", "hyperband")]
    trials: Annotated[int | None, at_least(1)]
    objective: str
    min_epochs: int | None
    space: dict[str, Any]
    parallel: Annotated[int, at_least(1)]
    early_stopping: bool
    warm_start: list[str]
    one_job: bool


@dataclass
class TrainCommandConfig(TrainConfig):
    """What train.py reads: a training run, and how to search for a better one."""

    best_of: str | None
    hpo: SearchConfig


@dataclass
class SagemakerConfig:
    """Where and on what jobs run (conf/sagemaker)."""

    rehearsal: bool
    region: str | None
    role: str | None
    bucket: Annotated[str | None, _BUCKET]
    bucket_owner: Annotated[str | None, Matches(r"\d{12}", "the 12 digits of an account")]
    prefix: Annotated[str, Matches(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*", "letters, digits and dashes, such as team-dogs")]
    image: str | None
    framework: str
    framework_version: str
    instance: Annotated[str, _INSTANCE]
    instances: Annotated[int, at_least(1)]
    features_instance: Annotated[str | None, _INSTANCE]
    features_instances: Annotated[int, at_least(1)]
    trial_instance: Annotated[str, _INSTANCE]
    volume_gb: Annotated[int, at_least(1)]
    hours: Annotated[float, above(0)]
    spot: bool
    wait_hours: Annotated[float, at_least(0)]
    retries: Annotated[int, at_least(0)]
    checkpoint_seconds: Annotated[float, at_least(0)]
    subnets: list[str]
    security_groups: list[str]
    kms_key: str | None
    isolated: bool
    encrypt_traffic: bool
    tags: dict[str, str]
    environment: dict[str, str]
    rehearsal_dir: str
    rehearsal_idle_minutes: Annotated[float, at_least(0)]
    faults: dict[str, Any]


@dataclass
class VariantConfig:
    """What serves an endpoint (conf/variant)."""

    kind: Annotated[str, one_of("realtime", "serverless", "asynchronous")]
    image: str | None
    serving_version: str
    instance: Annotated[str | None, _INSTANCE]
    instances: int | None
    min_instances: int | None
    max_instances: int | None
    target: Annotated[float, above(0)]
    scale_in_seconds: Annotated[int, at_least(0)]
    scale_out_seconds: Annotated[int, at_least(0)]
    capture_percent: int
    volume_gb: int | None
    download_seconds: int | None
    startup_seconds: int | None
    memory_mb: int | None
    concurrency: int | None
    output: str | None


def key_types(schema: type) -> dict[str, Any]:
    """All settings of a schema in dotted form, with their types: `{"lr": float, ..., "data.dir": str, ...}`."""
    return {one.name: one.type for one in settings(schema)}

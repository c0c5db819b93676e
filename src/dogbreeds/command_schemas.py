"""The typed schemas of the commands beside train.py: what each reads from conf/ and the command line."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from dogbreeds.constraints import Matches, Range, above, at_least, one_of
from dogbreeds.limits import Limits
from dogbreeds.schema import CacheConfig, SagemakerConfig, TrainCommandConfig, VariantConfig


@dataclass
class ClusterConfig:
    """Where features are computed (conf/cluster)."""

    address: str | None


@dataclass
class PrepareFeaturesCommandConfig(TrainCommandConfig):
    """What scripts/prepare_features.py reads: what train.py reads, and what computes."""

    cluster: ClusterConfig


@dataclass
class AuditCommandConfig(TrainCommandConfig):
    """What scripts/audit.py reads: what train.py reads, and where to write."""

    out: str


@dataclass
class LaunchCommandConfig(TrainCommandConfig):
    """What launch_sagemaker.py reads: what train.py reads, and where to run it."""

    attach: str | None
    stop: str | None
    sagemaker: SagemakerConfig


@dataclass
class DeployCommandConfig:
    """What scripts/deploy.py reads (conf/deploy.yaml)."""

    action: Annotated[str, one_of("deploy", "status", "delete", "list")]
    package: str | None
    endpoint: str | None
    yes: bool
    sagemaker: SagemakerConfig
    variant: VariantConfig


@dataclass
class AwsCommandConfig:
    """What scripts/aws.py reads (conf/aws.yaml)."""

    action: Annotated[str, one_of("status", "setup", "teardown")]
    yes: bool
    scratch_days: Annotated[int, at_least(1)]
    delete_results: bool
    sagemaker: SagemakerConfig


@dataclass
class CachePlaceConfig:
    """Where computed features are kept, for a command that adds none."""

    dir: str


@dataclass
class PredictCommandConfig:
    """What scripts/predict.py reads (conf/predict.yaml)."""

    package: str | None
    endpoint: str | None
    url: str | None
    images: str | None
    out: str | None
    format: Annotated[str | None, Matches("kaggle", "kaggle, or null, the default: then out= decides by its ending")]
    explain: str | None
    at_once: Annotated[int, at_least(1)]
    patience_seconds: Annotated[float, at_least(0)]
    cache: CachePlaceConfig
    sagemaker: SagemakerConfig


@dataclass
class ServeCommandConfig:
    """What scripts/serve.py reads (conf/serve.yaml)."""

    package: str
    host: str
    port: Annotated[int, Range(0, 65535)]
    cache: CachePlaceConfig
    limits: Limits


@dataclass
class ExportCommandConfig:
    """What scripts/export.py reads (conf/export.yaml)."""

    package: str
    format: Annotated[str, one_of("onnx", "pt2", "openvino")]
    out: str
    images: str | None


@dataclass
class CacheCommandConfig:
    """What scripts/cache.py reads (conf/cache.yaml)."""

    action: Annotated[str, one_of("list", "prune")]
    days: Annotated[float, at_least(0)]
    cache: CacheConfig


@dataclass
class ReportCommandConfig:
    """What scripts/report.py reads (conf/report.yaml)."""

    run: str | None
    runs: list[str] | None
    out: str


@dataclass
class RehearseCommandConfig:
    """What scripts/rehearse.py reads (conf/rehearse.yaml)."""

    action: Annotated[str, one_of("play", "list", "stop")]
    settings: list[str]
    dir: str
    rehearsal_dir: str


@dataclass
class GetDataCommandConfig:
    """What scripts/get_data.py reads (conf/get_data.yaml)."""

    dataset: str
    dir: str
    keep_archive: bool
    connect_timeout: Annotated[float, above(0)]
    read_timeout: Annotated[float, above(0)]
    retries: Annotated[int, at_least(0)]
    backoff: Annotated[float, at_least(0)]
    datasets: dict[str, Any]


@dataclass
class MakeSampleCommandConfig:
    """What scripts/make_sample.py reads (conf/make_sample.yaml)."""

    dir: str
    # As many as data/sample/drawing.py has.
    breeds: Annotated[int, Range(2, 12)]
    train: Annotated[int, at_least(1)]
    valid: Annotated[int, at_least(1)]
    test: Annotated[int, at_least(1)]
    pixels: Annotated[int, at_least(64)]
    seed: Annotated[int, at_least(0)]


_COMMANDS: tuple[type, ...] = (
    *(TrainCommandConfig, PrepareFeaturesCommandConfig, AuditCommandConfig, LaunchCommandConfig, AwsCommandConfig),
    *(DeployCommandConfig, PredictCommandConfig, ServeCommandConfig, ExportCommandConfig, ReportCommandConfig),
    *(CacheCommandConfig, GetDataCommandConfig, MakeSampleCommandConfig, RehearseCommandConfig),
)
#: The schema of each command, by the name of its config: `get_data` has GetDataCommandConfig.
SCHEMAS: dict[str, type] = {
    re.sub("(?<=[a-z])(?=[A-Z])", "_", one.__name__.removesuffix("CommandConfig")).lower(): one for one in _COMMANDS
}

"""What AWS has and this service has not: better no answer than a wrong one."""

from collections.abc import Iterator, Mapping
from typing import Any

_NOT_EMULATED = (
    "AcceleratorType", "AdditionalModelDataSources", "AlgorithmName", "AutoParameters", "Autotune",
    "CapacityReservationConfig", "ContainerArguments", "ContainerEntrypoint", "Containers", "CreationTimeAfter",
    "CreationTimeBefore", "DatasetSource", "DefinitionName", "DeploymentConfig", "ExplainerConfig",
    "FileSystemDataSource", "HyperParameterRanges", "HyperParameterTuningResourceConfig",
    "InferenceExecutionConfig", "InstancePools", "LastModifiedTimeAfter", "LastModifiedTimeBefore",
    "ManagedInstanceScaling", "MetricsConfig", "ModelDataSource", "ModelPackageConfig", "ModelPackageName",
    "MultiModelConfig", "ServerlessJobConfig", "SessionChainingConfig", "ShadowProductionVariants",
    "StatusEquals", "TrainingJobDefinitions", "TuningJobCompletionCriteria", "TuningObjective",
)  # fmt: skip
# By the names of members, wherever they stand in a request: the values that are emulated, or none.
_EMULATED: Mapping[str, tuple[object, ...]] = {
    "CompressionType": ("None", "GZIP"),
    "InputMode": ("File",),
    # Of a training job: more would not fit onto one machine.
    "InstanceCount": (1, 2, 3),
    "RecordWrapperType": ("None",),
    "S3DataType": ("S3Prefix",),
    "ScalingType": ("Auto", "Linear", "Logarithmic"),
    "ScalableDimension": ("sagemaker:variant:DesiredInstanceCount",),
    "SortBy": ("CreationTime",),
    "TrainingInputMode": ("File",),
} | dict.fromkeys(_NOT_EMULATED, ())


def unsupported(request: Any, path: str = "") -> Iterator[str]:
    """Yields what of a request is not emulated."""
    if isinstance(request, list):
        for one in request:
            yield from unsupported(one, path)
    for name, value in request.items() if isinstance(request, Mapping) else ():
        if value in _EMULATED.get(name, (value,)):
            yield from unsupported(value, f"{path}{name}.")
        else:
            other = f" other than {' or '.join(map(str, _EMULATED[name]))}" if _EMULATED[name] else ""
            yield f"{path}{name}{other} is not emulated: it needs AWS."

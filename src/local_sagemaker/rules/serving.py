"""Rules between the members of an endpoint configuration, and of autoscaling.

Sources are as of November 2026.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from local_sagemaker.rules.instances import gpus, has_local_disks
from local_sagemaker.rules.service_model import Problem, repeated

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html, and the page below.
#: Largest request of an endpoint on instances and of a serverless one (InvokeEndpoint), in bytes.
MAX_BYTES, MAX_BYTES_SERVERLESS = 6_291_456, 4_194_304
# https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html
_SERVERLESS_MEMORY_MB = tuple(range(1024, 6145, 1024))
# Of endpoints on instances: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariant.html
_OF_INSTANCES = (
    "InstanceType", "InitialInstanceCount", "VolumeSizeInGB", "ModelDataDownloadTimeoutInSeconds",
    "ContainerStartupHealthCheckTimeoutInSeconds", "InferenceAmiVersion",
)  # fmt: skip

Request = Mapping[str, Any]


def endpoint_config_problems(request: Request) -> Iterator[Problem]:
    """Yields what the service refuses in an endpoint configuration whose members are valid by themselves."""
    variants = request["ProductionVariants"]
    for position, variant in enumerate(variants):
        path = f"ProductionVariants[{position}]"
        if "ModelName" not in variant:
            yield Problem(f"{path}.ModelName", "is missing")
        if "ServerlessConfig" in variant:
            yield from _serverless(path, variant, request)
        else:
            yield from _instance(path, variant, request)
    yield from repeated("ProductionVariants", [variant["VariantName"] for variant in variants])


def scaling_problems(request: Request) -> Iterator[Problem]:
    """Yields what Application Auto Scaling refuses in a scalable target.

    Source: https://docs.aws.amazon.com/autoscaling/application/APIReference/API_RegisterScalableTarget.html
    """
    low, high = request.get("MinCapacity", 0), request.get("MaxCapacity", 0)
    if low < 0:
        yield Problem("MinCapacity", f"must be at least 0, got {low}")
    if high < max(low, 1):
        yield Problem("MaxCapacity", f"must be at least {max(low, 1)}, got {high}")


def _serverless(path: str, variant: Request, request: Request) -> Iterator[Problem]:
    for name in _OF_INSTANCES:
        if name in variant:
            yield Problem(f"{path}.{name}", "is only for endpoints on instances, and this one is serverless")
    for name in ("DataCaptureConfig", "AsyncInferenceConfig"):
        if name in request:
            yield Problem(name, "is only for endpoints on instances, and this one is serverless")
    memory = variant["ServerlessConfig"]["MemorySizeInMB"]
    if memory not in _SERVERLESS_MEMORY_MB:
        choices = ", ".join(str(one) for one in _SERVERLESS_MEMORY_MB)
        yield Problem(f"{path}.ServerlessConfig.MemorySizeInMB", f"must be one of {choices}, got {memory}")


def _instance(path: str, variant: Request, request: Request) -> Iterator[Problem]:
    for name in ("InstanceType", "InitialInstanceCount"):
        if name not in variant:
            yield Problem(f"{path}.{name}", "is missing")
    instance = variant.get("InstanceType", "")
    if has_local_disks(instance):
        if "VolumeSizeInGB" in variant:
            yield Problem(f"{path}.VolumeSizeInGB", f"cannot be set for {instance}, which has its own disks")
        if "KmsKeyId" in request:
            yield Problem("KmsKeyId", f"cannot be set for {instance}, which encrypts its own disks")
    if "-gpu-" in variant.get("InferenceAmiVersion", "") and not gpus(instance):
        yield Problem(f"{path}.InferenceAmiVersion", f"is only for instances with a GPU, and {instance} has none")

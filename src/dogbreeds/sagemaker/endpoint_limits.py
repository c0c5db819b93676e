"""Limits between the members of an endpoint configuration, and of autoscaling.

They are those of AWS's documentation of CreateEndpointConfig, of serverless endpoints and of the autoscaling of
endpoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from dogbreeds.sagemaker.requests.instances import gpus, has_local_disks
from dogbreeds.sagemaker.service_model import Problem

#: Megabytes that a serverless endpoint can have.
SERVERLESS_MEMORY = tuple(range(1024, 6145, 1024))
# What needs an instance that stays.
_OF_INSTANCES = (
    "InitialInstanceCount",
    "VolumeSizeInGB",
    "ModelDataDownloadTimeoutInSeconds",
    "ContainerStartupHealthCheckTimeoutInSeconds",
    "InferenceAmiVersion",
)

Request = Mapping[str, Any]


def endpoint_config_problems(request: Request) -> Iterator[Problem]:
    """Yields what the service refuses of an endpoint configuration whose every member is fine by itself."""
    variants = request["ProductionVariants"]
    for position, variant in enumerate(variants):
        path = f"ProductionVariants[{position}]"
        if "ModelName" not in variant:
            yield Problem(f"{path}.ModelName", "is missing")
        if "ServerlessConfig" in variant:
            yield from _serverless(path, variant, request)
        else:
            yield from _instance(path, variant, request)
    for name, count in Counter(variant["VariantName"] for variant in variants).items():
        if count > 1:
            yield Problem("ProductionVariants", f"must have each name once, has {name} {count} times")


def scaling_problems(request: Request) -> Iterator[Problem]:
    """Yields what Application Auto Scaling refuses of a scalable target."""
    low, high = request.get("MinCapacity", 0), request.get("MaxCapacity", 0)
    if low < 0:
        yield Problem("MinCapacity", f"must be 0 at least, is {low}")
    if high < max(low, 1):
        yield Problem("MaxCapacity", f"must be {max(low, 1)} at least, is {high}")


def _serverless(path: str, variant: Request, request: Request) -> Iterator[Problem]:
    for name in ("InstanceType", *_OF_INSTANCES):
        if name in variant:
            yield Problem(f"{path}.{name}", "is for endpoints on instances, and this one is serverless")
    for name in ("DataCaptureConfig", "AsyncInferenceConfig"):
        if name in request:
            yield Problem(name, "is for endpoints on instances, and this one is serverless")
    memory = variant["ServerlessConfig"]["MemorySizeInMB"]
    if memory not in SERVERLESS_MEMORY:
        choices = ", ".join(str(one) for one in SERVERLESS_MEMORY)
        yield Problem(f"{path}.ServerlessConfig.MemorySizeInMB", f"must be one of {choices}, not {memory}")


def _instance(path: str, variant: Request, request: Request) -> Iterator[Problem]:
    for name in ("InstanceType", "InitialInstanceCount"):
        if name not in variant:
            yield Problem(f"{path}.{name}", "is missing")
    instance = variant.get("InstanceType", "")
    if has_local_disks(instance):
        if "VolumeSizeInGB" in variant:
            yield Problem(f"{path}.VolumeSizeInGB", f"cannot be chosen for {instance}, which has disks of its own")
        if "KmsKeyId" in request:
            yield Problem("KmsKeyId", f"cannot be given for {instance}, which encrypts its own disks")
    if "-gpu-" in variant.get("InferenceAmiVersion", "") and not gpus(instance):
        yield Problem(f"{path}.InferenceAmiVersion", f"is for instances with a GPU, and {instance} has none")

"""The requests of an endpoint, made of the settings and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dogbreeds.errors import ConfigError
from dogbreeds.sagemaker.requests.instances import gpus, has_local_disks
from dogbreeds.schema import SagemakerConfig, VariantConfig

REALTIME, SERVERLESS, ASYNCHRONOUS = "realtime", "serverless", "asynchronous"
KINDS = (REALTIME, SERVERLESS, ASYNCHRONOUS)
#: The one variant of our endpoints.
VARIANT = "AllTraffic"
#: Tags by which everything of an endpoint is found again, and what it serves is told.
ENDPOINT_TAG, PACKAGE_TAG = "dogbreeds:endpoint", "dogbreeds:package"
#: The policy of autoscaling.
POLICY = "dogbreeds"
# What the GPU drivers of the serving image need.
_GPU_MACHINE_IMAGE = "al2-ami-sagemaker-inference-gpu-3-1"
_DIMENSION = {"ServiceNamespace": "sagemaker", "ScalableDimension": "sagemaker:variant:DesiredInstanceCount"}

Request = dict[str, Any]


@dataclass(frozen=True)
class Deployment:
    """What is deployed where.

    Attributes:
        endpoint: The endpoint's name.
        name: Of the model and the endpoint configuration, which are new with each deployment.
        archive: Where the model archive is in S3.
        image: The container image.
        role: The ARN of the role that the service takes on.
        place: The S3 folder for what endpoints leave, such as captured requests.
        package: What is served, in the words that tags can have.
    """

    endpoint: str
    name: str
    archive: str
    image: str
    role: str
    place: str
    package: str


def model_request(deployment: Deployment, sagemaker: SagemakerConfig) -> Request:
    """Returns what `create_model` is called with."""
    container: Request = {"Image": deployment.image, "ModelDataUrl": deployment.archive}
    if sagemaker.environment:
        container["Environment"] = dict(sagemaker.environment)
    request: Request = {
        "ModelName": deployment.name,
        "PrimaryContainer": container,
        "ExecutionRoleArn": deployment.role,
        "EnableNetworkIsolation": sagemaker.isolated,
        "Tags": [*_tags(deployment, sagemaker), {"Key": PACKAGE_TAG, "Value": deployment.package}],
    }
    if sagemaker.subnets or sagemaker.security_groups:
        request["VpcConfig"] = {
            "SecurityGroupIds": list(sagemaker.security_groups),
            "Subnets": list(sagemaker.subnets),
        }
    return request


def config_request(deployment: Deployment, variant: VariantConfig, sagemaker: SagemakerConfig) -> Request:
    """Returns what `create_endpoint_config` is called with."""
    key = {} if sagemaker.kms_key is None else {"KmsKeyId": sagemaker.kms_key}
    request: Request = {
        "EndpointConfigName": deployment.name,
        "ProductionVariants": [_variant(deployment, variant)],
        "Tags": _tags(deployment, sagemaker),
    }
    if variant.instance is not None and not has_local_disks(variant.instance):
        request |= key
    if variant.kind == ASYNCHRONOUS:
        place = (variant.output or f"{deployment.place}/async/{deployment.endpoint}").rstrip("/")
        request["AsyncInferenceConfig"] = {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": variant.concurrency},
            "OutputConfig": {"S3OutputPath": f"{place}/answers", "S3FailurePath": f"{place}/failures", **key},
        }
    if variant.capture_percent:
        request["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": variant.capture_percent,
            "DestinationS3Uri": f"{deployment.place}/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
            **key,
        }
    return request


def endpoint_request(deployment: Deployment, sagemaker: SagemakerConfig) -> Request:
    """Returns what `create_endpoint` is called with."""
    return {
        "EndpointName": deployment.endpoint,
        "EndpointConfigName": deployment.name,
        "Tags": _tags(deployment, sagemaker),
    }


def update_request(deployment: Deployment, *, scaled: bool) -> Request:
    """Returns what `update_endpoint` is called with.

    Args:
        deployment: What is to answer next.
        scaled: Autoscaling has chosen the number of instances, which is kept.
    """
    request: Request = {"EndpointName": deployment.endpoint, "EndpointConfigName": deployment.name}
    if scaled:
        request["RetainAllVariantProperties"] = True
        request["ExcludeRetainedVariantProperties"] = [
            {"VariantPropertyType": "DesiredWeight"},
            {"VariantPropertyType": "DataCaptureConfig"},
        ]
    return request


def scaled_resource(endpoint: str) -> Request:
    """Returns what names an endpoint to Application Auto Scaling."""
    return {**_DIMENSION, "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}"}


def scaling_requests(endpoint: str, variant: VariantConfig) -> dict[str, Request]:
    """Returns what Application Auto Scaling is called with, by operation; nothing where nothing scales.

    Endpoints that answer at once aim at a number of invocations per instance and minute, those that take requests
    from S3 at a number of waiting requests per instance.
    """
    if variant.max_instances is None:
        return {}
    resource = scaled_resource(endpoint)
    aim: Request = {
        "TargetValue": variant.target,
        "ScaleInCooldown": variant.scale_in_seconds,
        "ScaleOutCooldown": variant.scale_out_seconds,
    }
    if variant.kind == ASYNCHRONOUS:
        aim["CustomizedMetricSpecification"] = {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
            "Statistic": "Average",
        }
    else:
        aim["PredefinedMetricSpecification"] = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    return {
        "RegisterScalableTarget": {
            **resource,
            "MinCapacity": variant.min_instances,
            "MaxCapacity": variant.max_instances,
        },
        "PutScalingPolicy": {
            **resource,
            "PolicyName": POLICY,
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": aim,
        },
    }


def check_variant(variant: VariantConfig) -> None:
    """Refuses settings that contradict each other.

    Raises:
        ConfigError: One line per problem: the setting, and what it may be.
    """
    if variant.kind not in KINDS:
        raise ConfigError(
            f"variant.kind={variant.kind}: must be one of {', '.join(KINDS)}; take variant=<one of these>."
        )
    problems = []
    for name, kinds in _ONLY.items():
        value = getattr(variant, name)
        if variant.kind in kinds and value is None and name in _NEEDED:
            problems.append(f"variant.{name}=null: an endpoint that is {variant.kind} needs it.")
        if variant.kind not in kinds and value is not None:
            problems.append(f"variant.{name}={value}: an endpoint that is {variant.kind} has none; leave it out.")
    if variant.max_instances is not None and variant.min_instances is not None:
        least = 0 if variant.kind == ASYNCHRONOUS else 1
        if not least <= variant.min_instances <= variant.max_instances:
            problems.append(
                f"variant.min_instances={variant.min_instances}: must be {least} at least and "
                f"variant.max_instances={variant.max_instances} at most."
            )
        if variant.instances is not None and not variant.min_instances <= variant.instances <= variant.max_instances:
            problems.append(
                f"variant.instances={variant.instances}: must lie between variant.min_instances="
                f"{variant.min_instances} and variant.max_instances={variant.max_instances}."
            )
    if not 0 < variant.target < float("inf"):
        problems.append(f"variant.target={variant.target}: must be above 0 and finite.")
    for name in ("scale_in_seconds", "scale_out_seconds"):
        if getattr(variant, name) < 0:
            problems.append(f"variant.{name}={getattr(variant, name)}: must be 0 at least.")
    if variant.kind == SERVERLESS and variant.capture_percent:
        problems.append("variant.capture_percent: serverless endpoints capture nothing; leave it out.")
    if problems:
        raise ConfigError("\n".join(problems))


_ON_INSTANCES = (REALTIME, ASYNCHRONOUS)
# Which kinds have a setting.
_ONLY = {
    "instance": _ON_INSTANCES,
    "instances": _ON_INSTANCES,
    "min_instances": _ON_INSTANCES,
    "max_instances": _ON_INSTANCES,
    "volume_gb": _ON_INSTANCES,
    "download_seconds": _ON_INSTANCES,
    "startup_seconds": _ON_INSTANCES,
    "memory_mb": (SERVERLESS,),
    "concurrency": (SERVERLESS, ASYNCHRONOUS),
    "output": (ASYNCHRONOUS,),
}
_NEEDED = ("instance", "instances", "min_instances", "memory_mb", "concurrency")


def _variant(deployment: Deployment, variant: VariantConfig) -> Request:
    found: Request = {"VariantName": VARIANT, "ModelName": deployment.name, "InitialVariantWeight": 1.0}
    if variant.kind == SERVERLESS:
        sizes = {"MemorySizeInMB": variant.memory_mb, "MaxConcurrency": variant.concurrency}
        return {**found, "ServerlessConfig": sizes}
    assert variant.instance is not None
    found |= {"InstanceType": variant.instance, "InitialInstanceCount": variant.instances}
    if gpus(variant.instance):
        found["InferenceAmiVersion"] = _GPU_MACHINE_IMAGE
    chosen = {
        "VolumeSizeInGB": variant.volume_gb,
        "ModelDataDownloadTimeoutInSeconds": variant.download_seconds,
        "ContainerStartupHealthCheckTimeoutInSeconds": variant.startup_seconds,
    }
    return found | {name: value for name, value in chosen.items() if value is not None}


def _tags(deployment: Deployment, sagemaker: SagemakerConfig) -> list[dict[str, str]]:
    tags = {ENDPOINT_TAG: deployment.endpoint, **sagemaker.tags}
    return [{"Key": name, "Value": value} for name, value in tags.items()]

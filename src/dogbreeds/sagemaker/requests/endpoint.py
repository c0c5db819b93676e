"""The requests of an endpoint, made from the settings alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from dogbreeds.errors import ConfigError
from dogbreeds.sagemaker.requests.job import Request, present, tag_list, vpc
from dogbreeds.schema import SagemakerConfig, VariantConfig
from local_sagemaker.rules.instances import gpus, has_local_disks

REALTIME, SERVERLESS, ASYNCHRONOUS = "realtime", "serverless", "asynchronous"
#: The one variant of our endpoints.
VARIANT = "AllTraffic"
#: Tags that mark everything of an endpoint, and the package that it serves.
ENDPOINT_TAG, PACKAGE_TAG = "dogbreeds:endpoint", "dogbreeds:package"
#: The policy of autoscaling.
POLICY = "dogbreeds"
# The machine image with the GPU drivers that the serving image needs (ProductionVariant.InferenceAmiVersion).
_GPU_MACHINE_IMAGE = "al2-ami-sagemaker-inference-gpu-3-1"
_DIMENSION = {"ServiceNamespace": "sagemaker", "ScalableDimension": "sagemaker:variant:DesiredInstanceCount"}
_NEEDED = ("instance", "instances", "min_instances", "memory_mb", "concurrency")
_OF_INSTANCES = (*_NEEDED[:3], "max_instances", "capture_percent", "volume_gb", "download_seconds", "startup_seconds")
# The settings that only some kinds take.
_OF_KINDS = {
    REALTIME: _OF_INSTANCES,
    ASYNCHRONOUS: (*_OF_INSTANCES, "concurrency", "output"),
    SERVERLESS: ("memory_mb", "concurrency"),
}


@dataclass(frozen=True)
class Deployment:
    """One deployment: model and endpoint configuration are new with each, and have its `name`.

    `archive` and `folder`, which endpoints write to, are in S3; `role` is an ARN, `package` a summary, valid as tag.
    """

    endpoint: str
    name: str
    archive: str
    image: str
    role: str
    folder: str
    package: str


def model_request(deployment: Deployment, sagemaker: SagemakerConfig) -> Request:
    container = {"Image": deployment.image, "ModelDataUrl": deployment.archive}
    return {
        "ModelName": deployment.name,
        "PrimaryContainer": present({**container, "Environment": dict(sagemaker.environment)}),
        "ExecutionRoleArn": deployment.role,
        "EnableNetworkIsolation": sagemaker.isolated,
        "Tags": [*_tags(deployment, sagemaker), *tag_list({PACKAGE_TAG: deployment.package})],
        **vpc(sagemaker),
    }


def config_request(deployment: Deployment, variant: VariantConfig, sagemaker: SagemakerConfig) -> Request:
    key = {"KmsKeyId": sagemaker.kms_key}
    request: Request = {
        "EndpointConfigName": deployment.name,
        "ProductionVariants": [_variant(deployment, variant)],
        "Tags": _tags(deployment, sagemaker),
    }
    if variant.instance is not None and not has_local_disks(variant.instance):
        request |= key
    if variant.kind == ASYNCHRONOUS:
        place = (variant.output or f"{deployment.folder}/async/{deployment.endpoint}").rstrip("/")
        request["AsyncInferenceConfig"] = {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": variant.concurrency},
            "OutputConfig": {"S3OutputPath": f"{place}/answers", "S3FailurePath": f"{place}/failures", **key},
        }
    if variant.capture_percent:
        request["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": variant.capture_percent,
            "DestinationS3Uri": f"{deployment.folder}/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
            **key,
        }
    return present(request)


def endpoint_request(deployment: Deployment, sagemaker: SagemakerConfig) -> Request:
    named = {"EndpointName": deployment.endpoint, "EndpointConfigName": deployment.name}
    return {**named, "Tags": _tags(deployment, sagemaker)}


def update_request(deployment: Deployment, *, scaled: bool) -> Request:
    """Returns the request of `update_endpoint`; `scaled` keeps the number of instances, which autoscaling chose."""
    named = {"EndpointName": deployment.endpoint, "EndpointConfigName": deployment.name}
    excluded = [{"VariantPropertyType": one} for one in ("DesiredWeight", "DataCaptureConfig")]
    kept = {"RetainAllVariantProperties": True, "ExcludeRetainedVariantProperties": excluded}
    return {**named, **kept} if scaled else named


def scaled_resource(endpoint: str) -> Request:
    """Returns the members that identify an endpoint to Application Auto Scaling."""
    return {**_DIMENSION, "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}"}


def scaling_requests(endpoint: str, variant: VariantConfig) -> dict[str, Request]:
    """Returns the requests to Application Auto Scaling, by operation; none where nothing scales.

    Realtime endpoints aim at invocations per instance and minute, asynchronous ones at waiting requests per instance.
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
        metric = {"MetricName": "ApproximateBacklogSizePerInstance", "Namespace": "AWS/SageMaker"}
        dimensions = [{"Name": "EndpointName", "Value": endpoint}]
        aim["CustomizedMetricSpecification"] = {**metric, "Dimensions": dimensions, "Statistic": "Average"}
    else:
        aim["PredefinedMetricSpecification"] = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    bounds = {"MinCapacity": variant.min_instances, "MaxCapacity": variant.max_instances}
    policy = {"PolicyName": POLICY, "PolicyType": "TargetTrackingScaling"}
    return {
        "RegisterScalableTarget": {**resource, **bounds},
        "PutScalingPolicy": {**resource, **policy, "TargetTrackingScalingPolicyConfiguration": aim},
    }


def check_variant(variant: VariantConfig) -> None:
    if problems := [*_of_another_kind(variant), *_scaling_problems(variant)]:
        raise ConfigError("\n".join(problems))


def _of_another_kind(variant: VariantConfig) -> Iterator[str]:
    own = _OF_KINDS[variant.kind]
    for name in {name: None for names in _OF_KINDS.values() for name in names}:
        value = getattr(variant, name)
        if name in own and value is None and name in _NEEDED:
            yield f"variant.{name}=null: {variant.kind} endpoints need it."
        if name not in own and value:
            yield f"variant.{name}={value}: {variant.kind} endpoints do not take it; remove it."


def _scaling_problems(variant: VariantConfig) -> Iterator[str]:
    low, high, start = variant.min_instances, variant.max_instances, variant.instances
    if low is None or high is None or start is None:
        return
    least = 0 if variant.kind == ASYNCHRONOUS else 1
    if not least <= low <= high:
        yield f"variant.min_instances={low}: must be at least {least} and at most variant.max_instances={high}."
    if not low <= start <= high:
        yield f"variant.instances={start}: must be from variant.min_instances={low} to max_instances={high}."


def _variant(deployment: Deployment, variant: VariantConfig) -> Request:
    sizes = {"MemorySizeInMB": variant.memory_mb, "MaxConcurrency": variant.concurrency}
    found = {
        "VariantName": VARIANT,
        "ModelName": deployment.name,
        "InitialVariantWeight": 1.0,
        "ServerlessConfig": sizes if variant.kind == SERVERLESS else None,
        "InstanceType": variant.instance,
        "InitialInstanceCount": variant.instances,
        "InferenceAmiVersion": _GPU_MACHINE_IMAGE if variant.instance and gpus(variant.instance) else None,
        "VolumeSizeInGB": variant.volume_gb,
        "ModelDataDownloadTimeoutInSeconds": variant.download_seconds,
        "ContainerStartupHealthCheckTimeoutInSeconds": variant.startup_seconds,
    }
    return present(found)


def _tags(deployment: Deployment, sagemaker: SagemakerConfig) -> list[dict[str, str]]:
    return tag_list({ENDPOINT_TAG: deployment.endpoint, **sagemaker.tags})

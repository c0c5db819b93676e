"""The requests of an endpoint, made from the settings alone."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from dogbreeds.errors import ConfigError
from dogbreeds.files import yaml_beside
from dogbreeds.sagemaker.requests.job import Request, filled, tag_list, vpc
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
# The settings that only some kinds take.
_OF_KINDS: Mapping[str, list[str]] = yaml_beside(__file__, "kinds.yaml")


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
    tags = [*_tags(deployment, sagemaker), *tag_list({PACKAGE_TAG: deployment.package})]
    return filled("model", deployment=asdict(deployment), sagemaker=asdict(sagemaker), tags=tags) | vpc(sagemaker)


def config_request(deployment: Deployment, variant: VariantConfig, sagemaker: SagemakerConfig) -> Request:
    key, given = sagemaker.kms_key, {"deployment": asdict(deployment), "variant": asdict(variant)}
    chosen = filled(
        "variant",
        **given,
        name=VARIANT,
        serverless=filled("serverless", **given) if variant.kind == SERVERLESS else None,
        machine_image=_GPU_MACHINE_IMAGE if variant.instance and gpus(variant.instance) else None,
    )
    disk_key = key if variant.instance and not has_local_disks(variant.instance) else None
    tags = _tags(deployment, sagemaker)
    request = filled("endpoint_config", **given, variants=[chosen], tags=tags, disk_key=disk_key)
    if variant.kind == ASYNCHRONOUS:
        place = (variant.output or f"{deployment.folder}/async/{deployment.endpoint}").rstrip("/")
        request["AsyncInferenceConfig"] = filled("asynchronous", **given, place=place, key=key)
    if variant.capture_percent:
        request["DataCaptureConfig"] = filled("capture", **given, key=key)
    return request


def endpoint_request(deployment: Deployment, sagemaker: SagemakerConfig) -> Request:
    return {**update_request(deployment, scaled=False), "Tags": _tags(deployment, sagemaker)}


def update_request(deployment: Deployment, *, scaled: bool) -> Request:
    """Returns the request of `update_endpoint`; `scaled` keeps the number of instances, which autoscaling chose."""
    named = {"EndpointName": deployment.endpoint, "EndpointConfigName": deployment.name}
    return {**named, **(filled("retained") if scaled else {})}


def scaled_resource(endpoint: str) -> Request:
    """Returns the members that identify an endpoint to Application Auto Scaling."""
    return {**_DIMENSION, "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}"}


def scaling_requests(endpoint: str, variant: VariantConfig) -> dict[str, Request]:
    """Returns the requests to Application Auto Scaling, by operation; none where nothing scales.

    Realtime endpoints aim at invocations per instance and minute, asynchronous ones at waiting requests per instance.
    """
    if variant.max_instances is None:
        return {}
    resource, aim = scaled_resource(endpoint), "waiting" if variant.kind == ASYNCHRONOUS else "invocations"
    aims = {"waiting": None, "invocations": None, aim: filled(aim, endpoint=endpoint)}
    policy = filled("scaling_policy", policy=POLICY, variant=asdict(variant), **aims)
    bounds = {"MinCapacity": variant.min_instances, "MaxCapacity": variant.max_instances}
    return {"RegisterScalableTarget": {**resource, **bounds}, "PutScalingPolicy": {**resource, **policy}}


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


def _tags(deployment: Deployment, sagemaker: SagemakerConfig) -> list[dict[str, str]]:
    return tag_list({ENDPOINT_TAG: deployment.endpoint, **sagemaker.tags})

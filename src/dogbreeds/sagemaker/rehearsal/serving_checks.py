"""What the service refuses of models and endpoint configurations beyond `limits`: what does not exist here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dogbreeds.sagemaker.rehearsal.checks import not_rehearsed, refuse, role_problems, rule_problems
from dogbreeds.sagemaker.rehearsal.objects import Objects, split_uri

_IMAGE = re.compile(r"\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/[^:@]+([:@].+)?")
_NOT_REHEARSED_MODEL = ("Containers", "InferenceExecutionConfig")
_NOT_REHEARSED_CONTAINER = ("ModelDataSource", "ModelPackageName", "MultiModelConfig", "AdditionalModelDataSources")
_NOT_REHEARSED_CONFIG = (
    "ShadowProductionVariants",
    "ExplainerConfig",
    "MetricsConfig",
    "ExecutionRoleArn",
    "VpcConfig",
)
_NOT_REHEARSED_VARIANT = ("InstancePools", "ManagedInstanceScaling", "AcceleratorType", "CapacityReservationConfig")


def check_model(request: Mapping[str, Any], objects: Objects, region: str) -> None:
    """Refuses a model that no endpoint could serve, with all problems."""
    refuse([*not_rehearsed(request, _NOT_REHEARSED_MODEL, ""), *_model(request, objects, region)])


def check_endpoint_config(request: Mapping[str, Any], model: Mapping[str, Any] | None, objects: Objects) -> None:
    """Refuses an endpoint configuration that no endpoint could have, with all problems.

    The model is the description of that of its first variant, if there is one.
    """
    variants = request["ProductionVariants"]
    problems = [*not_rehearsed(request, _NOT_REHEARSED_CONFIG, "")]
    if len(variants) > 1:
        problems.append("More than one production variant is not rehearsed: it needs AWS.")
    for variant in variants:
        problems += not_rehearsed(variant, _NOT_REHEARSED_VARIANT, "ProductionVariants.")
        if model is None:
            problems.append(f'Could not find model "{variant.get("ModelName")}".')
    problems += rule_problems("CreateEndpointConfig", request)
    if model is not None and "ServerlessConfig" in variants[0]:
        for member in ("VpcConfig", "EnableNetworkIsolation"):
            if model.get(member):
                problems.append(f"A serverless variant takes no model with {member}.")
    for place in _places(request):
        if not objects.has_bucket(split_uri(place)[0]):
            problems.append(f"{place}: no such bucket.")
    refuse(problems)


def _model(request: Mapping[str, Any], objects: Objects, region: str) -> Iterator[str]:
    container = request.get("PrimaryContainer")
    if container is None:
        if "Containers" not in request:
            yield "PrimaryContainer is missing."
        return
    yield from not_rehearsed(container, _NOT_REHEARSED_CONTAINER, "PrimaryContainer.")
    image, archive = container.get("Image"), container.get("ModelDataUrl")
    found = _IMAGE.fullmatch(image or "")
    if image is None:
        yield "PrimaryContainer.Image is missing."
    elif found is None:
        yield f"Invalid image URI {image}. Please provide a valid Amazon Elastic Container Registry path."
    elif found["region"] != region:
        yield f"The image {image} is in {found['region']}, but must be in {region}."
    if "ExecutionRoleArn" not in request:
        yield "ExecutionRoleArn is missing."
    else:
        yield from role_problems(request["ExecutionRoleArn"])
    if archive is None:
        yield "PrimaryContainer.ModelDataUrl is missing; models inside an image are not rehearsed."
    elif not archive.endswith(".tar.gz"):
        yield f"ModelDataUrl {archive} must be the URI of an archive, .tar.gz."
    elif objects.find(*split_uri(archive)) is None:
        yield f"Could not find model data at {archive}."
    yield from rule_problems("CreateModel", request)


def _places(request: Mapping[str, Any]) -> Iterator[str]:
    capture = request.get("DataCaptureConfig", {})
    if capture.get("EnableCapture", True) and "DestinationS3Uri" in capture:
        yield capture["DestinationS3Uri"]
    output = request.get("AsyncInferenceConfig", {}).get("OutputConfig", {})
    yield from (output[name] for name in ("S3OutputPath", "S3FailurePath") if name in output)

"""What the service refuses of models and endpoint configurations beyond `limits`: what does not exist here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dogbreeds.sagemaker.rehearsal.checks import refuse, role_problems
from dogbreeds.sagemaker.rehearsal.objects import Objects, split_uri

_IMAGE = re.compile(r"\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/[^:@]+([:@].+)?")


def check_model(request: Mapping[str, Any], objects: Objects, region: str) -> None:
    """Refuses a model that no endpoint could serve, with all problems."""
    container = request.get("PrimaryContainer", {})
    given = {**container, **request}
    refuse(f"{name} is missing." for name in ("ExecutionRoleArn", "Image", "ModelDataUrl") if name not in given)
    refuse([*role_problems(request["ExecutionRoleArn"]), *_container_problems(container, objects, region)])


def check_endpoint_config(request: Mapping[str, Any], model: Mapping[str, Any] | None, objects: Objects) -> None:
    """Refuses an endpoint configuration that no endpoint could have, with all problems.

    The model is the description of that of its first variant, if there is one.
    """
    first, *others = request["ProductionVariants"]
    problems = [
        f"{place}: no such bucket." for place in _places(request) if not objects.has_bucket(split_uri(place)[0])
    ]
    if others:
        problems.append("More than one production variant is not rehearsed: it needs AWS.")
    if model is None:
        problems.append(f'Could not find model "{first["ModelName"]}".')
    elif "ServerlessConfig" in first:
        unfit = [member for member in ("VpcConfig", "EnableNetworkIsolation") if model.get(member)]
        problems += [f"A serverless variant takes no model with {member}." for member in unfit]
    refuse(problems)


def _container_problems(container: Mapping[str, Any], objects: Objects, region: str) -> Iterator[str]:
    image, archive = container["Image"], container["ModelDataUrl"]
    found = _IMAGE.fullmatch(image)
    if found is None:
        yield f"Invalid image URI {image}. Please provide a valid Amazon Elastic Container Registry path."
    elif found["region"] != region:
        yield f"The image {image} is in {found['region']}, but must be in {region}."
    if not archive.endswith(".tar.gz"):
        yield f"ModelDataUrl {archive} must be the URI of an archive, .tar.gz."
    elif objects.find(*split_uri(archive)) is None:
        yield f"Could not find model data at {archive}."


def _places(request: Mapping[str, Any]) -> Iterator[str]:
    capture = request.get("DataCaptureConfig", {})
    if capture.get("EnableCapture", True) and "DestinationS3Uri" in capture:
        yield capture["DestinationS3Uri"]
    output = request.get("AsyncInferenceConfig", {}).get("OutputConfig", {})
    yield from (output[name] for name in ("S3OutputPath", "S3FailurePath") if name in output)

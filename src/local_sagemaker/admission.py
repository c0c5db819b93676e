"""What the service refuses beyond its model and `rules`: what does not exist, and what only AWS has."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from local_sagemaker.calls import ACCOUNT, Members, invalid
from local_sagemaker.faults import Faults
from local_sagemaker.s3.objects import PARTITIONS, Objects, split_uri

_IMAGE = re.compile(r"\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/[^:@]+([:@].+)?")
_DEBUGGER = ("DebugHookConfig", "DebugRuleConfigurations", "ProfilerRuleConfigurations")
# By the names of members, wherever they stand in a request: the values that are emulated, or none.
_EMULATED: Mapping[str, Sequence[object]] = yaml.safe_load(Path(__file__).with_name("emulated.yaml").read_bytes())


def check_training_job(request: Members, objects: Objects, faults: Faults) -> None:
    """Refuses a training job, or the definition of those of a tuning job, that could not run, with all problems."""
    problems = [*role_problems(request["RoleArn"]), *_inputs(request, objects)]
    if faults.debugger_closed:
        closed = "SageMaker Debugger is not available to this account."
        problems += [f"{name}: {closed}" for name in _DEBUGGER if request.get(name)]
    refuse(problems)


def refuse(problems: Iterable[str]) -> None:
    if found := list(problems):
        raise invalid(" ".join(found))


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


def role_problems(arn: str) -> Iterator[str]:
    """Yields what is wrong with the role that the service has to assume."""
    from moto.iam.models import iam_backends

    there = [role for one in PARTITIONS for role in iam_backends[ACCOUNT][one].roles.values() if role.arn == arn]
    if not any("sagemaker.amazonaws.com" in str(role.assume_role_policy_document) for role in there):
        why = "it does not exist, or does not allow the principal sagemaker.amazonaws.com."
        yield f"Could not assume role {arn}: {why}"


def _inputs(request: Members, objects: Objects) -> Iterator[str]:
    for channel in request.get("InputDataConfig", []):
        uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
        if not objects.under(uri):
            needed = f"The bucket {split_uri(uri)[0]} must exist in this region and hold objects under that prefix."
            yield f'No S3 objects found under S3 URL "{uri}" given in input data source. {needed}'


def check_model(request: Members, objects: Objects, region: str) -> None:
    """Refuses a model that no endpoint could serve, with all problems."""
    container = request.get("PrimaryContainer", {})
    given = {**container, **request}
    refuse(f"{name} is missing." for name in ("ExecutionRoleArn", "Image", "ModelDataUrl") if name not in given)
    refuse([*role_problems(request["ExecutionRoleArn"]), *_container_problems(container, objects, region)])


def check_endpoint_config(request: Members, model: Members | None, objects: Objects) -> None:
    """Refuses an endpoint configuration that no endpoint could have, with all problems.

    The model is the description of that of its first variant, if there is one.
    """
    first, *others = request["ProductionVariants"]
    places = [place for place in _places(request) if not objects.has_bucket(split_uri(place)[0])]
    problems = [f"{place}: no such bucket." for place in places]
    problems += ["More than one production variant is not emulated: it needs AWS."] if others else []
    if model is None:
        problems.append(f'Could not find model "{first["ModelName"]}".')
    elif "ServerlessConfig" in first:
        unfit = [member for member in ("VpcConfig", "EnableNetworkIsolation") if model.get(member)]
        problems += [f"A serverless variant takes no model with {member}." for member in unfit]
    refuse(problems)


def _container_problems(container: Members, objects: Objects, region: str) -> Iterator[str]:
    image, archive = container["Image"], container["ModelDataUrl"]
    found = _IMAGE.fullmatch(image)
    if found is None:
        yield f"Invalid image URI {image}. Please provide a valid Amazon Elastic Container Registry path."
    elif found["region"] != region:
        yield f"The image {image} is in {found['region']}, but must be in {region}."
    if not archive.endswith(".tar.gz"):
        yield f"ModelDataUrl {archive} must be the URI of an archive, .tar.gz."
    elif objects.find(archive) is None:
        yield f"Could not find model data at {archive}."


def _places(request: Members) -> Iterator[str]:
    capture = request.get("DataCaptureConfig", {})
    if capture.get("EnableCapture", True) and "DestinationS3Uri" in capture:
        yield capture["DestinationS3Uri"]
    output = request.get("AsyncInferenceConfig", {}).get("OutputConfig", {})
    yield from (output[name] for name in ("S3OutputPath", "S3FailurePath") if name in output)

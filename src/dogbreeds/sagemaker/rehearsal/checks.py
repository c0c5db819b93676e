"""What the service refuses of training jobs beyond `limits`: what does not exist, and what is not emulated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dogbreeds.sagemaker.limits import problems_between
from dogbreeds.sagemaker.rehearsal.faults import Faults, invalid
from dogbreeds.sagemaker.rehearsal.objects import Objects, split_uri

#: Name of the role that a rehearsal's account has.
ROLE = "dogbreeds"
_DEBUGGER = ("DebugHookConfig", "DebugRuleConfigurations", "ProfilerRuleConfigurations")
_NOT_REHEARSED = ("InfraCheckConfig", "ModelPackageConfig", "ServerlessJobConfig", "SessionChainingConfig")
_NOT_REHEARSED_ALGORITHM = ("AlgorithmName", "ContainerEntrypoint", "ContainerArguments")


def check_training_job(request: Mapping[str, Any], objects: Objects, faults: Faults) -> None:
    """Refuses a training job that could not run, with all problems."""
    algorithm = request.get("AlgorithmSpecification", {})
    problems = [
        *rule_problems("CreateTrainingJob", request),
        *not_rehearsed(request, _NOT_REHEARSED, ""),
        *not_rehearsed(algorithm, _NOT_REHEARSED_ALGORITHM, "AlgorithmSpecification."),
        *_modes(request),
        *role_problems(request["RoleArn"]),
        *_inputs(request, objects),
    ]
    if faults.debugger_closed:
        closed = "SageMaker Debugger is not available to this account."
        problems += [f"{name}: {closed}" for name in _DEBUGGER if request.get(name)]
    refuse(problems)


def rule_problems(operation: str, request: Mapping[str, Any]) -> Iterator[str]:
    return (f"{one.path} {one.message}." for one in problems_between(operation, request))


def not_rehearsed(given: Mapping[str, Any], names: Iterable[str], where: str) -> Iterator[str]:
    """Yields the members that AWS has and a rehearsal does not: better no answer than a wrong one."""
    return (f"{where}{name} is not rehearsed: it needs AWS." for name in names if name in given)


def refuse(problems: Iterable[str]) -> None:
    if found := list(problems):
        raise invalid(" ".join(found))


def _modes(request: Mapping[str, Any]) -> Iterator[str]:
    if request["OutputDataConfig"].get("CompressionType", "GZIP") != "GZIP":
        yield "OutputDataConfig.CompressionType other than GZIP is not rehearsed: it needs AWS."
    modes = [request.get("AlgorithmSpecification", {}).get("TrainingInputMode", "File")]
    for channel in request.get("InputDataConfig", []):
        modes.append(channel.get("InputMode", "File"))
        for member in ("CompressionType", "RecordWrapperType"):
            if channel.get(member, "None") != "None":
                yield f"Channel {channel['ChannelName']}: {member} is not rehearsed: it needs AWS."
    if set(modes) != {"File"}:
        yield "Input modes other than File are not rehearsed: they need AWS."


def role_problems(arn: str) -> Iterator[str]:
    """Yields what is wrong with the role that the service has to assume."""
    if not arn.endswith(f":role/{ROLE}"):
        yield (
            f"Could not assume role {arn}: it does not exist, or does not allow the principal "
            f"sagemaker.amazonaws.com. A rehearsal has the role {ROLE}."
        )


def _inputs(request: Mapping[str, Any], objects: Objects) -> Iterator[str]:
    for channel in request.get("InputDataConfig", []):
        name, source = channel["ChannelName"], channel["DataSource"].get("S3DataSource")
        if source is None or source["S3DataType"] != "S3Prefix":
            yield f"Channel {name}: sources other than an S3Prefix are not rehearsed: they need AWS."
        elif not objects.under(source["S3Uri"]):
            yield (
                f'No S3 objects found under S3 URL "{source["S3Uri"]}" given in input data source. The bucket '
                f"{split_uri(source['S3Uri'])[0]} must exist in this region and hold objects under that prefix."
            )

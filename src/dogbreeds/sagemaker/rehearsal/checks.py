"""What the service refuses of training jobs beyond the service model: limits between members, things not there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dogbreeds.sagemaker.rehearsal.faults import Faults, invalid
from dogbreeds.sagemaker.rehearsal.objects import Objects, split_uri

#: Name of the role that a rehearsal's account has.
ROLE = "dogbreeds"
#: The longest run unless the request says: a day.
DEFAULT_RUNTIME = 86_400
_PROFILER_INTERVALS = (100, 200, 500, 1000, 5000, 60_000)
_DEBUGGER = ("DebugHookConfig", "DebugRuleConfigurations", "ProfilerRuleConfigurations")
# AWS has these and a rehearsal does not: better no answer than a wrong one.
_NOT_REHEARSED = ("InfraCheckConfig", "ModelPackageConfig", "ServerlessJobConfig", "SessionChainingConfig")


def check_training_job(request: Mapping[str, Any], objects: Objects, faults: Faults) -> None:
    """Refuses a training job that could not run.

    Raises:
        ServiceError: With all that is wrong.
    """
    problems = [
        *_missing(request),
        *_not_rehearsed(request),
        *_algorithm(request.get("AlgorithmSpecification", {})),
        *_stopping(request),
        *role_problems(request["RoleArn"]),
        *_debugger(request, faults),
        *_tags(request.get("Tags", [])),
        *_inputs(request, objects),
    ]
    refuse(problems)


def refuse(problems: Iterable[str]) -> None:
    """Raises a ServiceError with all problems, if there are any."""
    if found := list(problems):
        raise invalid(" ".join(found))


def _missing(request: Mapping[str, Any]) -> Iterator[str]:
    # The model leaves these open since there are jobs without machines of their own.
    for name in ("AlgorithmSpecification", "ResourceConfig", "StoppingCondition"):
        if name not in request:
            yield f"{name} is missing."
    resources = request.get("ResourceConfig", {})
    if resources and not resources.get("InstanceGroups"):
        for name in ("InstanceType", "InstanceCount", "VolumeSizeInGB"):
            if not resources.get(name):
                yield f"ResourceConfig.{name} is missing."


def _not_rehearsed(request: Mapping[str, Any]) -> Iterator[str]:
    algorithm = request.get("AlgorithmSpecification", {})
    for name in ("AlgorithmName", "ContainerEntrypoint", "ContainerArguments"):
        if name in algorithm:
            yield f"AlgorithmSpecification.{name} is not rehearsed: it needs AWS."
    for name in _NOT_REHEARSED:
        if name in request:
            yield f"{name} is not rehearsed: it needs AWS."
    if request["OutputDataConfig"].get("CompressionType", "GZIP") != "GZIP":
        yield "OutputDataConfig.CompressionType other than GZIP is not rehearsed: it needs AWS."
    modes = [algorithm.get("TrainingInputMode", "File")]
    for channel in request.get("InputDataConfig", []):
        modes.append(channel.get("InputMode", "File"))
        for member in ("CompressionType", "RecordWrapperType"):
            if channel.get(member, "None") != "None":
                yield f"Channel {channel['ChannelName']}: {member} is not rehearsed: it needs AWS."
    if set(modes) != {"File"}:
        yield "Input modes other than File are not rehearsed: they need AWS."


def _algorithm(algorithm: Mapping[str, Any]) -> Iterator[str]:
    if algorithm and ("TrainingImage" in algorithm) == ("AlgorithmName" in algorithm):
        yield "AlgorithmSpecification must have exactly one of TrainingImage and AlgorithmName."
    definitions = algorithm.get("MetricDefinitions", [])
    for name in _repeated(definition["Name"] for definition in definitions):
        yield f"Two metric definitions have the name {name}."
    for definition in definitions:
        try:
            groups = re.compile(definition["Regex"]).groups
        except re.error as error:
            yield f"The regular expression of metric {definition['Name']} cannot be read: {error}."
        else:
            if groups < 1:
                yield f"The regular expression of metric {definition['Name']} has no group for the value."


def _stopping(request: Mapping[str, Any]) -> Iterator[str]:
    condition = request.get("StoppingCondition", {})
    runtime, wait = condition.get("MaxRuntimeInSeconds", DEFAULT_RUNTIME), condition.get("MaxWaitTimeInSeconds")
    if not request.get("EnableManagedSpotTraining"):
        if wait is not None:
            yield "MaxWaitTimeInSeconds is only for jobs with EnableManagedSpotTraining."
    elif wait is None:
        yield "MaxWaitTimeInSeconds is missing, which EnableManagedSpotTraining needs."
    elif wait < runtime:
        yield f"MaxWaitTimeInSeconds ({wait}) must be at least MaxRuntimeInSeconds ({runtime})."


def role_problems(arn: str) -> Iterator[str]:
    """Yields what is wrong with the role that the service is to take on."""
    if not arn.endswith(f":role/{ROLE}"):
        yield (
            f"Could not assume role {arn}: it does not exist, or does not allow the principal "
            f"sagemaker.amazonaws.com. A rehearsal has the role {ROLE}."
        )


def _debugger(request: Mapping[str, Any], faults: Faults) -> Iterator[str]:
    if faults.debugger_closed:
        for name in _DEBUGGER:
            if request.get(name):
                yield f"{name}: SageMaker Debugger is not available to this account."
    profiler = request.get("ProfilerConfig", {})
    interval = profiler.get("ProfilingIntervalInMilliseconds", _PROFILER_INTERVALS[0])
    if interval not in _PROFILER_INTERVALS:
        yield f"ProfilingIntervalInMilliseconds must be one of {', '.join(map(str, _PROFILER_INTERVALS))}."
    if profiler.get("DisableProfiler") and request.get("ProfilerRuleConfigurations"):
        yield "ProfilerRuleConfigurations cannot be given where DisableProfiler is true."
    rules = [*request.get("DebugRuleConfigurations", []), *request.get("ProfilerRuleConfigurations", [])]
    for name in _repeated(rule["RuleConfigurationName"] for rule in rules):
        yield f"Two rules have the name {name}."


def _tags(tags: Iterable[Mapping[str, str]]) -> Iterator[str]:
    for key in _repeated(tag["Key"] for tag in tags):
        yield f"Two tags have the key {key}."
    if any(tag["Key"].lower().startswith("aws:") for tag in tags):
        yield "Keys of tags must not begin with aws:, which is reserved."


def _inputs(request: Mapping[str, Any], objects: Objects) -> Iterator[str]:
    channels = request.get("InputDataConfig", [])
    for name in _repeated(channel["ChannelName"] for channel in channels):
        yield f"Two channels have the name {name}."
    for channel in channels:
        name, source = channel["ChannelName"], channel["DataSource"].get("S3DataSource")
        if source is None or source["S3DataType"] != "S3Prefix":
            yield f"Channel {name}: sources other than an S3Prefix are not rehearsed: they need AWS."
        elif next(objects.under(source["S3Uri"]), None) is None:
            yield (
                f'No S3 objects found under S3 URL "{source["S3Uri"]}" given in input data source. The bucket '
                f"{split_uri(source['S3Uri'])[0]} must exist in this region and hold objects under that prefix."
            )


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]

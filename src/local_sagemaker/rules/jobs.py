"""Rules between several members of a request, which the service model cannot express: the only place that has them.

Sources are as of November 2026; botocore's service model of that time has the same texts. What they leave open, such
as an interval of one value, is allowed. The rules of endpoints are in `serving`. What a search space or the metrics
of a project never are is not checked, such as an interval that ends before it begins.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from local_sagemaker.rules.service_model import Problem, repeated
from local_sagemaker.rules.serving import endpoint_config_problems, scaling_problems

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StoppingCondition.html
#: MaxRuntimeInSeconds unless the request has it: a day.
DEFAULT_RUNTIME_SECONDS = 86_400
_MAX_RUNTIME_DAYS = 28
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProfilerConfig.html
_PROFILING_MILLISECONDS = (100, 200, 500, 1000, 5000, 60_000)
# https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning-limits.html (parallel: the highest quota)
#: The hyperparameter that the service adds to the trials of a tuning job; it counts towards the maximum.
OBJECTIVE_PARAMETER = "_tuning_objective_metric"
_MAX_HYPERPARAMETERS, _MAX_RANGES, _MAX_TUNING_METRICS, _MAX_PARALLEL = 100, 30, 20, 100
_MAX_RANDOM_TRIALS, _MAX_OTHER_TRIALS = 10_000, 750
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Tag.html
_RESERVED_TAG = "aws:"
_TUNING = "HyperParameterTuningJobConfig"
_RANGES = f"{_TUNING}.ParameterRanges"

Request = Mapping[str, Any]


def problems_between(operation: str, request: Request) -> list[Problem]:
    """Returns what the service refuses in a request whose members are all valid by themselves."""
    if operation == "RegisterScalableTarget":
        return list(scaling_problems(request))
    found = list(_tags(request))
    if operation == "CreateEndpointConfig":
        found += endpoint_config_problems(request)
    if operation == "CreateTrainingJob":
        found += [*_job(request), *_debugger(request)]
    if operation == "CreateHyperParameterTuningJob":
        if "TrainingJobDefinition" not in request:
            return [*found, Problem("TrainingJobDefinition", "is missing")]
        definition = request["TrainingJobDefinition"]
        found += [Problem(f"TrainingJobDefinition.{one.path}", one.message) for one in _job(definition)]
        found += [*_strategy(request), *_budget(request), *_ranges(request), *_metrics(request)]
    return found


def ranges_of(tuning: Request) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields kind (Integer, Continuous, Categorical) and range of all that a HyperParameterTuningJobConfig tunes."""
    for kind in ("Integer", "Continuous", "Categorical"):
        for one in tuning.get("ParameterRanges", {}).get(f"{kind}ParameterRanges", []):
            yield kind, one


def combinations(tuning: Request) -> int:
    return math.prod(len(one.get("Values", ())) for _, one in ranges_of(tuning))


def _tags(request: Request) -> Iterator[Problem]:
    keys = [tag["Key"] for tag in request.get("Tags", [])]
    for position, key in enumerate(keys):
        if key.lower().startswith(_RESERVED_TAG):
            yield Problem(f"Tags[{position}].Key", f"must not begin with {_RESERVED_TAG}, which is reserved for AWS")
    yield from repeated("Tags", keys)


# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html and API_ResourceConfig.html
def _job(job: Request) -> Iterator[Problem]:
    # The model leaves these open because there are jobs without instances of their own.
    for name in ("AlgorithmSpecification", "ResourceConfig", "StoppingCondition"):
        if name not in job:
            yield Problem(name, "is missing")
    resources = job.get("ResourceConfig", {})
    if resources and not resources.get("InstanceGroups"):
        for name in ("InstanceType", "InstanceCount", "VolumeSizeInGB"):
            if not resources.get(name):
                said = f"must be at least 1, got {resources[name]}" if name in resources else "is missing"
                yield Problem(f"ResourceConfig.{name}", said)
    yield from _stopping(job)
    yield from repeated("InputDataConfig", [one["ChannelName"] for one in job.get("InputDataConfig", [])])
    metrics = job.get("AlgorithmSpecification", {}).get("MetricDefinitions", [])
    yield from repeated("AlgorithmSpecification.MetricDefinitions", [one["Name"] for one in metrics])


def _stopping(job: Request) -> Iterator[Problem]:
    stopping = job.get("StoppingCondition", {})
    runtime = stopping.get("MaxRuntimeInSeconds", DEFAULT_RUNTIME_SECONDS)
    wait, path = stopping.get("MaxWaitTimeInSeconds"), "StoppingCondition.MaxWaitTimeInSeconds"
    if runtime > _MAX_RUNTIME_DAYS * 86_400:
        said = f"must be at most {_MAX_RUNTIME_DAYS} days, got {runtime} s"
        yield Problem("StoppingCondition.MaxRuntimeInSeconds", said)
    if not job.get("EnableManagedSpotTraining"):
        if wait is not None:
            yield Problem(path, "is only for Spot jobs (EnableManagedSpotTraining)")
    elif wait is None:
        yield Problem(path, "is missing, but Spot jobs need it")
    elif wait < runtime:
        yield Problem(path, f"must be at least MaxRuntimeInSeconds ({runtime} s), got {wait} s")


def _debugger(request: Request) -> Iterator[Problem]:
    config = request.get("ProfilerConfig", {})
    interval = config.get("ProfilingIntervalInMilliseconds")
    if interval is not None and interval not in _PROFILING_MILLISECONDS:
        choices = ", ".join(map(str, _PROFILING_MILLISECONDS))
        yield Problem("ProfilerConfig.ProfilingIntervalInMilliseconds", f"must be one of {choices}, got {interval}")
    if config.get("DisableProfiler") and request.get("ProfilerRuleConfigurations"):
        yield Problem("ProfilerRuleConfigurations", "cannot be used where DisableProfiler is true")
    for member in ("DebugRuleConfigurations", "ProfilerRuleConfigurations"):
        yield from repeated(member, [rule["RuleConfigurationName"] for rule in request.get(member, [])])


# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_HyperParameterTuningJobConfig.html, here and below
def _strategy(request: Request) -> Iterator[Problem]:
    tuning = request[_TUNING]
    hyperband = tuning.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    if tuning["Strategy"] != "Hyperband" and hyperband:
        yield Problem(f"{_TUNING}.StrategyConfig", f"is only for Hyperband, not for {tuning['Strategy']}")
    if tuning["Strategy"] == "Hyperband" and tuning.get("TrainingJobEarlyStoppingType", "Off") != "Off":
        said = "must be Off with Hyperband, which stops trials by its own rule"
        yield Problem(f"{_TUNING}.TrainingJobEarlyStoppingType", said)


def _budget(request: Request) -> Iterator[Problem]:
    tuning = request[_TUNING]
    strategy, limits, path = tuning["Strategy"], tuning["ResourceLimits"], f"{_TUNING}.ResourceLimits"
    trials, parallel = limits.get("MaxNumberOfTrainingJobs"), limits["MaxParallelTrainingJobs"]
    of_trials, of_parallel = f"{path}.MaxNumberOfTrainingJobs", f"{path}.MaxParallelTrainingJobs"
    if parallel > _MAX_PARALLEL:
        yield Problem(of_parallel, f"must be at most {_MAX_PARALLEL}, got {parallel}")
    if strategy == "Grid":
        points = combinations(tuning)
        if trials not in (None, points):
            yield Problem(of_trials, f"must be the number of combinations of the grid ({points}), got {trials}")
        trials = points
    if trials is None:
        yield Problem(of_trials, f"is missing, but {strategy} needs it")
        return
    if parallel > trials:
        yield Problem(of_parallel, f"must be at most the number of trials ({trials}), got {parallel}")
    most = _MAX_RANDOM_TRIALS if strategy == "Random" else _MAX_OTHER_TRIALS
    if trials > most:
        yield Problem(of_trials, f"must be at most {most} for {strategy}, got {trials}")


def _ranges(request: Request) -> Iterator[Problem]:
    tuning, static = request[_TUNING], request["TrainingJobDefinition"].get("StaticHyperParameters", {})
    ranges = list(ranges_of(tuning))
    names = [one["Name"] for _, one in ranges]
    if not 1 <= len(names) <= _MAX_RANGES:
        yield Problem(_RANGES, f"must have 1 to {_MAX_RANGES} ranges, got {len(names)}")
    yield from repeated(_RANGES, names)
    for name in sorted({*names} & {*static}):
        yield Problem(_RANGES, f"must not have {name}, which StaticHyperParameters fixes")
    total = len({*static, *names, OBJECTIVE_PARAMETER})
    if total > _MAX_HYPERPARAMETERS:
        said = f"can have at most {_MAX_HYPERPARAMETERS - 1} hyperparameters, fixed and searched together; "
        yield Problem("TrainingJobDefinition.StaticHyperParameters", f"{said}got {total - 1}")
    for kind, one in ranges:
        if kind == "Categorical":
            yield from repeated(f"{_RANGES}.CategoricalParameterRanges", one["Values"])
        elif tuning["Strategy"] == "Grid":
            yield Problem(_RANGES, f"must have only categorical ranges for Grid: {one['Name']} is an interval")


def _metrics(request: Request) -> Iterator[Problem]:
    algorithm = request["TrainingJobDefinition"]["AlgorithmSpecification"]
    names = [one["Name"] for one in algorithm.get("MetricDefinitions", [])]
    if len(names) > _MAX_TUNING_METRICS:
        path = "TrainingJobDefinition.AlgorithmSpecification.MetricDefinitions"
        yield Problem(path, f"must have at most {_MAX_TUNING_METRICS} metrics in a tuning job, got {len(names)}")
    objective = request[_TUNING].get("HyperParameterTuningJobObjective")
    path = f"{_TUNING}.HyperParameterTuningJobObjective"
    if objective is None:
        yield Problem(path, "is missing")
    elif objective["MetricName"] not in names:
        yield Problem(f"{path}.MetricName", f"must be one of {', '.join(names)}, got {objective['MetricName']}")

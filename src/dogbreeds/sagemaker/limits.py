"""Limits between several members of a request, which the service model has no words for.

They are those of AWS's documentation of CreateTrainingJob, CreateHyperParameterTuningJob and of the limits of
automatic model tuning; those of endpoints are in `endpoint_limits`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dogbreeds.sagemaker.endpoint_limits import endpoint_config_problems, scaling_problems
from dogbreeds.sagemaker.service_model import Problem

#: The hyperparameter that the service adds to the trials of a tuning job.
OBJECTIVE_PARAMETER = "_tuning_objective_metric"
#: What Debugger can sample the system at, in milliseconds.
PROFILING_INTERVALS = (100, 200, 500, 1000, 5000, 60_000)
_SECONDS_PER_DAY = 86_400
_LONGEST_DAYS = 28
_MOST_HYPERPARAMETERS = 100
_MOST_RANGES = 30
_MOST_TUNING_METRICS = 20
_MOST_PARALLEL = 100
_MOST_TRIALS = {"Random": 10_000}
_MOST_OTHER_TRIALS = 750
_RESERVED_TAG = "aws:"

Request = Mapping[str, Any]


def problems_between(operation: str, request: Request) -> list[Problem]:
    """Returns what the service refuses of a request whose every member is fine by itself."""
    if operation == "RegisterScalableTarget":
        return list(scaling_problems(request))
    found = list(_tags(request))
    if operation == "CreateEndpointConfig":
        found += endpoint_config_problems(request)
    if operation == "CreateTrainingJob":
        found += [*_job(request), *_profiler(request)]
    if operation == "CreateHyperParameterTuningJob":
        definition = request["TrainingJobDefinition"]
        prefix = "TrainingJobDefinition."
        found += [Problem(prefix + one.path, one.message) for one in _job(definition)]
        found += [*_strategy(request), *_budget(request), *_ranges(request), *_metrics(request)]
    return found


def _tags(request: Request) -> Iterator[Problem]:
    keys = [tag["Key"] for tag in request.get("Tags", [])]
    for position, key in enumerate(keys):
        if key.lower().startswith(_RESERVED_TAG):
            yield Problem(f"Tags[{position}].Key", f"must not begin with {_RESERVED_TAG}, which AWS keeps for itself")
    yield from _twice("Tags", keys)


def _job(definition: Request) -> Iterator[Problem]:
    stopping = definition["StoppingCondition"]
    longest, wait = stopping.get("MaxRuntimeInSeconds"), stopping.get("MaxWaitTimeInSeconds")
    if longest is not None and longest > _LONGEST_DAYS * _SECONDS_PER_DAY:
        yield Problem(
            "StoppingCondition.MaxRuntimeInSeconds", f"must be {_LONGEST_DAYS} days at most, is {longest} s"
        )
    place = "StoppingCondition.MaxWaitTimeInSeconds"
    if definition.get("EnableManagedSpotTraining"):
        if wait is None:
            yield Problem(place, "is missing, and a job on spare machines needs it")
        elif longest is not None and wait < longest:
            yield Problem(place, f"must be MaxRuntimeInSeconds ({longest} s) or more, is {wait} s")
    elif wait is not None:
        yield Problem(place, "is for jobs on spare machines only (sagemaker.spot=true)")
    yield from _twice("InputDataConfig", [one["ChannelName"] for one in definition.get("InputDataConfig", [])])
    metrics = definition["AlgorithmSpecification"].get("MetricDefinitions", [])
    yield from _twice("AlgorithmSpecification.MetricDefinitions", [one["Name"] for one in metrics])


def _profiler(request: Request) -> Iterator[Problem]:
    config = request.get("ProfilerConfig", {})
    interval = config.get("ProfilingIntervalInMilliseconds")
    if interval is not None and interval not in PROFILING_INTERVALS:
        choices = ", ".join(str(one) for one in PROFILING_INTERVALS)
        yield Problem("ProfilerConfig.ProfilingIntervalInMilliseconds", f"must be one of {choices}, not {interval}")
    if config.get("DisableProfiler") and request.get("ProfilerRuleConfigurations"):
        yield Problem("ProfilerRuleConfigurations", "cannot judge a job whose profiler is off")
    for member in ("DebugRuleConfigurations", "ProfilerRuleConfigurations"):
        yield from _twice(member, [rule["RuleConfigurationName"] for rule in request.get(member, [])])


def _strategy(request: Request) -> Iterator[Problem]:
    tuning = request["HyperParameterTuningJobConfig"]
    path = "HyperParameterTuningJobConfig"
    hyperband = tuning.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    if tuning["Strategy"] != "Hyperband":
        if hyperband:
            yield Problem(f"{path}.StrategyConfig", f"is for Hyperband only, not for {tuning['Strategy']}")
        return
    if tuning.get("TrainingJobEarlyStoppingType", "Off") != "Off":
        yield Problem(f"{path}.TrainingJobEarlyStoppingType", "must be Off: Hyperband stops trials by its own rule")
    least, most = hyperband.get("MinResource"), hyperband.get("MaxResource")
    if least is not None and most is not None and least > most:
        yield Problem(
            f"{path}.StrategyConfig.HyperbandStrategyConfig.MinResource",
            f"must not be above MaxResource ({most}), is {least}",
        )


def _budget(request: Request) -> Iterator[Problem]:
    tuning = request["HyperParameterTuningJobConfig"]
    strategy, limits = tuning["Strategy"], tuning["ResourceLimits"]
    path = "HyperParameterTuningJobConfig.ResourceLimits"
    trials, parallel = limits.get("MaxNumberOfTrainingJobs"), limits["MaxParallelTrainingJobs"]
    if parallel > _MOST_PARALLEL:
        yield Problem(f"{path}.MaxParallelTrainingJobs", f"must be {_MOST_PARALLEL} at most, is {parallel}")
    if strategy == "Grid":
        ranges = tuning.get("ParameterRanges", {})
        points = math.prod(len(one["Values"]) for one in ranges.get("CategoricalParameterRanges", []))
        if trials is not None and trials != points:
            yield Problem(
                f"{path}.MaxNumberOfTrainingJobs", f"must be the {points} combinations of the grid, is {trials}"
            )
        trials = points
    if trials is None:
        yield Problem(f"{path}.MaxNumberOfTrainingJobs", f"is missing, and {strategy} needs it")
        return
    if parallel > trials:
        yield Problem(f"{path}.MaxParallelTrainingJobs", f"must not exceed the {trials} trials, is {parallel}")
    most = _MOST_TRIALS.get(strategy, _MOST_OTHER_TRIALS)
    if trials > most:
        yield Problem(f"{path}.MaxNumberOfTrainingJobs", f"must be {most} at most for {strategy}, is {trials}")


def _ranges(request: Request) -> Iterator[Problem]:
    tuning, definition = request["HyperParameterTuningJobConfig"], request["TrainingJobDefinition"]
    path = "HyperParameterTuningJobConfig.ParameterRanges"
    ranges = tuning.get("ParameterRanges", {})
    numbers = [(kind, one) for kind in ("Integer", "Continuous") for one in ranges.get(f"{kind}ParameterRanges", [])]
    choices = ranges.get("CategoricalParameterRanges", [])
    names = [one["Name"] for one in [*(one for _, one in numbers), *choices]]
    if len(names) > _MOST_RANGES:
        yield Problem(path, f"must have {_MOST_RANGES} settings at most, has {len(names)}")
    yield from _twice(path, names)
    if tuning["Strategy"] == "Grid" and numbers:
        yield Problem(path, f"must have choices only for Grid, has an interval for {numbers[0][1]['Name']}")
    for kind, one in numbers:
        yield from _interval(f"{path}.{kind}ParameterRanges", one)
    static = definition.get("StaticHyperParameters", {})
    for name in names:
        if name in static:
            yield Problem(path, f"must not have {name}, which StaticHyperParameters fixes")
    # The one that the service adds counts, too.
    total = len({*static, *names, OBJECTIVE_PARAMETER})
    if total > _MOST_HYPERPARAMETERS:
        yield Problem(
            "TrainingJobDefinition.StaticHyperParameters",
            f"and what is searched must be {_MOST_HYPERPARAMETERS - 1} at most together, are {total - 1}",
        )


def _interval(path: str, one: Mapping[str, str]) -> Iterator[Problem]:
    low, high = float(one["MinValue"]), float(one["MaxValue"])
    if not low < high:
        yield Problem(path, f"of {one['Name']} must end above its beginning, goes from {low:g} to {high:g}")
    if one.get("ScalingType") == "Logarithmic" and low <= 0:
        yield Problem(path, f"of {one['Name']} must begin above 0 to be logarithmic, begins at {low:g}")


def _metrics(request: Request) -> Iterator[Problem]:
    metrics = request["TrainingJobDefinition"]["AlgorithmSpecification"].get("MetricDefinitions", [])
    names = [one["Name"] for one in metrics]
    if len(names) > _MOST_TUNING_METRICS:
        yield Problem(
            "TrainingJobDefinition.AlgorithmSpecification.MetricDefinitions",
            f"must be {_MOST_TUNING_METRICS} at most in a tuning job, are {len(names)}",
        )
    objective = request["HyperParameterTuningJobConfig"].get("HyperParameterTuningJobObjective", {})
    if objective.get("MetricName") not in names:
        yield Problem(
            "HyperParameterTuningJobConfig.HyperParameterTuningJobObjective.MetricName",
            f"must be one of the metrics of the log ({', '.join(names)}), not {objective.get('MetricName')}",
        )


def _twice(path: str, names: Sequence[str]) -> Iterable[Problem]:
    counted = Counter(names)
    return [Problem(path, f"must have each name once, has {name} {n} times") for name, n in counted.items() if n > 1]

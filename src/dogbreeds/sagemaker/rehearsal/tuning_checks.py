"""What the service refuses of tuning jobs beyond the service model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from dogbreeds.sagemaker.rehearsal.checks import refuse
from dogbreeds.sagemaker.rehearsal.faults import ServiceError

# Quotas that an account begins with, and limits of the service.
_MOST_PARALLEL = 10
_MOST_JOBS = {"Random": 10_000}
_MOST_JOBS_OTHERWISE = 750
_MOST_RANGES = 30
_MOST_METRICS = 20
_MOST_HYPERPARAMETERS = 100
#: Added to the hyperparameters of each child.
OBJECTIVE_KEY = "_tuning_objective_metric"


def check_tuning_job(request: Mapping[str, Any]) -> None:
    """Refuses a tuning job that could not run; its training jobs are checked by themselves.

    Raises:
        ServiceError: With all that is wrong.
    """
    if "TrainingJobDefinition" not in request or "TrainingJobDefinitions" in request:
        refuse(["A rehearsal takes exactly one TrainingJobDefinition; several are not rehearsed: they need AWS."])
    config, definition = request["HyperParameterTuningJobConfig"], request["TrainingJobDefinition"]
    limits = config["ResourceLimits"]
    if limits["MaxParallelTrainingJobs"] > _MOST_PARALLEL:
        raise ServiceError(
            "ResourceLimitExceeded",
            f"An account may run {_MOST_PARALLEL} training jobs of a tuning job at once unless its quota was raised; "
            f"{limits['MaxParallelTrainingJobs']} were asked for.",
        )
    refuse(
        [
            *_not_rehearsed(request),
            *_strategy(config),
            *_counts(config),
            *_objective(config, definition),
            *_ranges(config, definition),
        ]
    )


def ranges_of(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields kind (Continuous, Integer, Categorical) and range of all that is tuned."""
    for kind in ("Continuous", "Integer", "Categorical"):
        for each in config.get("ParameterRanges", {}).get(f"{kind}ParameterRanges", []):
            yield kind, each


def combinations(config: Mapping[str, Any]) -> int:
    """Returns the number of points of a Grid."""
    return prod(len(each.get("Values", ())) for _, each in ranges_of(config))


def _not_rehearsed(request: Mapping[str, Any]) -> Iterator[str]:
    config, definition = request["HyperParameterTuningJobConfig"], request["TrainingJobDefinition"]
    if "Autotune" in request or config.get("ParameterRanges", {}).get("AutoParameters"):
        yield "Autotune is not rehearsed: it needs AWS."
    for name in ("HyperParameterTuningResourceConfig", "TuningObjective", "HyperParameterRanges"):
        if name in definition:
            yield f"TrainingJobDefinition.{name} is not rehearsed: it needs AWS."


def _strategy(config: Mapping[str, Any]) -> Iterator[str]:
    hyperband = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig")
    if config["Strategy"] == "Hyperband":
        if config.get("TrainingJobEarlyStoppingType", "Off") != "Off":
            yield "TrainingJobEarlyStoppingType must be Off with the strategy Hyperband, which stops jobs itself."
    elif hyperband is not None:
        yield f"HyperbandStrategyConfig is not for the strategy {config['Strategy']}."
    if hyperband and hyperband.get("MinResource", 1) >= hyperband.get("MaxResource", 1 << 31):
        yield "HyperbandStrategyConfig.MinResource must be less than MaxResource."


def _counts(config: Mapping[str, Any]) -> Iterator[str]:
    limits, strategy = config["ResourceLimits"], config["Strategy"]
    count = limits.get("MaxNumberOfTrainingJobs")
    if strategy == "Grid":
        points = combinations(config)
        if count is not None and count != points:
            yield f"MaxNumberOfTrainingJobs ({count}) must be the number of combinations of a Grid ({points})."
        count = points
    elif count is None:
        yield f"ResourceLimits.MaxNumberOfTrainingJobs is missing, which the strategy {strategy} needs."
        return
    if limits["MaxParallelTrainingJobs"] > count:
        parallel = limits["MaxParallelTrainingJobs"]
        yield f"MaxParallelTrainingJobs ({parallel}) must not exceed MaxNumberOfTrainingJobs ({count})."
    most = _MOST_JOBS.get(strategy, _MOST_JOBS_OTHERWISE)
    if count > most:
        yield f"A tuning job with the strategy {strategy} has {most} training jobs at most, not {count}."


def _objective(config: Mapping[str, Any], definition: Mapping[str, Any]) -> Iterator[str]:
    metrics = [each["Name"] for each in definition["AlgorithmSpecification"].get("MetricDefinitions", [])]
    if len(metrics) > _MOST_METRICS:
        yield f"A tuning job has {_MOST_METRICS} metric definitions at most, not {len(metrics)}."
    objective = config.get("HyperParameterTuningJobObjective")
    if objective is None:
        yield "HyperParameterTuningJobObjective is missing."
    elif objective["MetricName"] not in metrics:
        yield f"The objective {objective['MetricName']} must be among the metric definitions: {', '.join(metrics)}."


def _ranges(config: Mapping[str, Any], definition: Mapping[str, Any]) -> Iterator[str]:
    names = [each["Name"] for _, each in ranges_of(config)]
    static = definition.get("StaticHyperParameters", {})
    if not 1 <= len(names) <= _MOST_RANGES:
        yield f"ParameterRanges must have 1 to {_MOST_RANGES} ranges, has {len(names)}."
    if len(names) + len(static) + 1 > _MOST_HYPERPARAMETERS:
        total = f"{len(static)} static, {len(names)} tuned, and {OBJECTIVE_KEY}"
        yield f"A training job has {_MOST_HYPERPARAMETERS} hyperparameters at most, not {total}."
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"Two ranges have the name {name}."
    for name in sorted(set(names) & set(static)):
        yield f"The hyperparameter {name} is both static and tuned."
    for kind, each in ranges_of(config):
        if kind == "Categorical":
            if len(set(each["Values"])) < len(each["Values"]):
                yield f"The values of {each['Name']} repeat themselves."
        elif config["Strategy"] == "Grid":
            yield f"{each['Name']}: the strategy Grid takes categorical ranges only."
        else:
            yield from _ends(kind, each)


def _ends(kind: str, each: Mapping[str, Any]) -> Iterator[str]:
    name, scaling = each["Name"], each.get("ScalingType", "Auto")
    try:
        number = int if kind == "Integer" else float
        low, high = number(each["MinValue"]), number(each["MaxValue"])
    except ValueError:
        yield f"{name}: MinValue and MaxValue must be numbers ({kind})."
        return
    if not low <= high:
        yield f"{name}: MinValue ({low}) must not exceed MaxValue ({high})."
    if scaling == "Logarithmic" and low <= 0:
        yield f"{name}: the scaling Logarithmic needs a MinValue above 0."
    if scaling == "ReverseLogarithmic" and (kind == "Integer" or low < 0 or high >= 1):
        yield f"{name}: the scaling ReverseLogarithmic is for continuous ranges from 0 to below 1."

"""What the service refuses of tuning jobs beyond `limits`: quotas, and what is not emulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dogbreeds.sagemaker.rehearsal.checks import not_rehearsed, refuse, rule_problems
from dogbreeds.sagemaker.rehearsal.faults import ApiError

# The quota of a new account; `limits` has the highest that AWS grants.
_PARALLEL_QUOTA = 10
_NOT_REHEARSED = ("HyperParameterTuningResourceConfig", "TuningObjective", "HyperParameterRanges")


def check_tuning_job(request: Mapping[str, Any]) -> None:
    """Refuses a tuning job that could not run; its training jobs are checked separately."""
    if "TrainingJobDefinition" not in request or "TrainingJobDefinitions" in request:
        refuse(["Exactly one TrainingJobDefinition is needed; several are not rehearsed: they need AWS."])
    config, definition = request["HyperParameterTuningJobConfig"], request["TrainingJobDefinition"]
    parallel = config["ResourceLimits"]["MaxParallelTrainingJobs"]
    if parallel > _PARALLEL_QUOTA:
        raise ApiError(
            "ResourceLimitExceeded",
            f"An account may run {_PARALLEL_QUOTA} training jobs of a tuning job at once unless its quota was "
            f"raised; got {parallel}.",
        )
    autotune = "Autotune" in request or config.get("ParameterRanges", {}).get("AutoParameters")
    refuse(
        [
            *rule_problems("CreateHyperParameterTuningJob", request),
            *not_rehearsed(definition, _NOT_REHEARSED, "TrainingJobDefinition."),
            *(["Autotune is not rehearsed: it needs AWS."] if autotune else []),
        ]
    )

"""The trials of a tuning job as entries of a leaderboard."""

import json
from collections.abc import Mapping
from typing import Any

from dogbreeds.hpo.leaderboard import FAILED, FINISHED, INTERRUPTED, NAN, PRUNED, Entry
from dogbreeds.hpo.settings import Objective
from dogbreeds.hpo.space import Choice, Dimension, Space
from dogbreeds.sagemaker.launch.job_handle import JobHandle

_STATES = {"Completed": FINISHED, "Failed": FAILED, "Stopped": PRUNED}


def trials_of(tuning_job: JobHandle) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Returns the trials of a tuning job as they began: the settings chosen for each, and AWS's description."""

    def listed() -> list[dict[str, Any]]:
        paginator = tuning_job.account.sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
        pages = paginator.paginate(
            HyperParameterTuningJobName=tuning_job.name, SortBy="CreationTime", SortOrder="Ascending"
        )
        return [summary for page in pages for summary in page["TrainingJobSummaries"]]

    def described(name: str) -> dict[str, Any]:
        return tuning_job.ask(lambda: JobHandle(tuning_job.account, name).describe())

    return [(one["TunedHyperParameters"], described(one["TrainingJobName"])) for one in tuning_job.ask(listed)]


def entry(number: int, tuned: Mapping[str, str], job: Mapping[str, Any], space: Space, objective: Objective) -> Entry:
    """Returns the leaderboard entry of a trial."""
    metrics = {one["MetricName"]: float(one["Value"]) for one in job.get("FinalMetricDataList", [])}
    value = metrics.get(objective.name)
    state = _STATES.get(job["TrainingJobStatus"], INTERRUPTED)
    if state == FINISHED and value is None:
        state = NAN
    return Entry(
        number=number,
        state=state,
        values={name: _value(dimension, tuned[name]) for name, dimension in space.dimensions.items()},
        value=value,
        metrics=metrics,
        epochs=int(metrics.get("epoch", 0)),
        seconds=float(job.get("TrainingTimeInSeconds", 0)),
        message=job.get("FailureReason", ""),
    )


def _value(dimension: Dimension, text: str) -> float | str:
    """Parses a tuned value: a string, which AWS's own tools may have quoted once more."""
    if isinstance(dimension, Choice):
        return text if text in dimension.values else str(json.loads(text))
    return int(float(text)) if dimension.integer else float(text)

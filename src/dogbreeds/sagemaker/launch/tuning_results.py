"""The trials of a tuning job as entries of a leaderboard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dogbreeds.hpo.leaderboard import FAILED, FINISHED, INTERRUPTED, NAN, PRUNED, Entry
from dogbreeds.hpo.settings import Objective
from dogbreeds.hpo.space import Choice, Dimension, Space
from dogbreeds.sagemaker.aws_errors import aws_errors
from dogbreeds.sagemaker.launch.follow import describe
from dogbreeds.sagemaker.session import Account

_STATES = {"Completed": FINISHED, "Failed": FAILED, "Stopped": PRUNED}


def trials_of(account: Account, tuning_job: str) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Returns the trials of a tuning job as they began: the settings chosen for each, and AWS's description."""
    paginator = account.sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
    with aws_errors(f"list the trials of {tuning_job}"):
        pages = paginator.paginate(
            HyperParameterTuningJobName=tuning_job, SortBy="CreationTime", SortOrder="Ascending"
        )
        summaries = [summary for page in pages for summary in page["TrainingJobSummaries"]]
    return [(one["TunedHyperParameters"], describe(account, one["TrainingJobName"])) for one in summaries]


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

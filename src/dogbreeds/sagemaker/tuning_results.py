"""What a tuning job found, in the words of a search on this machine: leaderboard.csv, best.yaml, search.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dogbreeds.sagemaker.progress import describe
from dogbreeds.sagemaker.session import Session
from dogbreeds.search.leaderboard import FAILED, FINISHED, INTERRUPTED, NAN, PRUNED, Entry
from dogbreeds.search.settings import Objective
from dogbreeds.search.space import Choice, Dimension, Space

_STATES = {"Completed": FINISHED, "Failed": FAILED, "Stopped": PRUNED}


def entries(session: Session, tuning_job: str, space: Space, objective: Objective) -> list[Entry]:
    """Returns the trials of a tuning job, in the order in which it made them."""
    summaries = _summaries(session, tuning_job)
    return [_entry(number, session, summary, space, objective) for number, summary in enumerate(summaries)]


def job_names(session: Session, tuning_job: str) -> list[str]:
    """Returns the training jobs of a tuning job, in the order in which it made them."""
    return [summary["TrainingJobName"] for summary in _summaries(session, tuning_job)]


def _summaries(session: Session, tuning_job: str) -> list[dict[str, Any]]:
    pages = session.sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
        HyperParameterTuningJobName=tuning_job, SortBy="CreationTime", SortOrder="Ascending"
    )
    return [summary for page in pages for summary in page["TrainingJobSummaries"]]


def _entry(number: int, session: Session, summary: Mapping[str, Any], space: Space, objective: Objective) -> Entry:
    job = describe(session, summary["TrainingJobName"])
    metrics = {one["MetricName"]: float(one["Value"]) for one in job.get("FinalMetricDataList", [])}
    value = metrics.get(objective.name)
    state = _STATES.get(summary["TrainingJobStatus"], INTERRUPTED)
    if state == FINISHED and value is None:
        state = NAN
    tuned = summary["TunedHyperParameters"]
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
    """Reads a tuned value, which is a string that AWS's own tools may have quoted once more."""
    if isinstance(dimension, Choice):
        return text if text in dimension.values else str(json.loads(text))
    return int(float(text)) if dimension.integer else float(text)

"""What a tuning job found, in the words of a search on this machine: leaderboard.csv, best.yaml, search.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dogbreeds.hpo.leaderboard import FAILED, FINISHED, INTERRUPTED, NAN, PRUNED, Entry
from dogbreeds.hpo.settings import Objective
from dogbreeds.hpo.space import Choice, Dimension, Space
from dogbreeds.sagemaker.launch.follow import describe
from dogbreeds.sagemaker.session import Session

_STATES = {"Completed": FINISHED, "Failed": FAILED, "Stopped": PRUNED}


@dataclass(frozen=True)
class Trial:
    """A training job of a tuning job, as the service describes it.

    Attributes:
        tuned: The settings that were chosen for it, as strings.
        job: All else.
    """

    tuned: Mapping[str, str]
    job: Mapping[str, Any]


def trials_of(session: Session, tuning_job: str) -> list[Trial]:
    """Returns the trials of a tuning job, in the order in which it made them."""
    pages = session.sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
        HyperParameterTuningJobName=tuning_job, SortBy="CreationTime", SortOrder="Ascending"
    )
    summaries = [summary for page in pages for summary in page["TrainingJobSummaries"]]
    return [Trial(one["TunedHyperParameters"], describe(session, one["TrainingJobName"])) for one in summaries]


def entry(number: int, trial: Trial, space: Space, objective: Objective) -> Entry:
    """Returns a trial as an entry of a leaderboard."""
    job = trial.job
    metrics = {one["MetricName"]: float(one["Value"]) for one in job.get("FinalMetricDataList", [])}
    value = metrics.get(objective.name)
    state = _STATES.get(job["TrainingJobStatus"], INTERRUPTED)
    if state == FINISHED and value is None:
        state = NAN
    return Entry(
        number=number,
        state=state,
        values={name: _value(dimension, trial.tuned[name]) for name, dimension in space.dimensions.items()},
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

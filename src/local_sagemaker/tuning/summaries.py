"""Summaries of the training jobs of a tuning job."""

from collections.abc import Sequence
from typing import Any

from local_sagemaker.calls import Members
from local_sagemaker.records import ENDED, Record

_TIMES = ("CreationTime", "TrainingStartTime", "TrainingEndTime")
_COPIED = ("TrainingJobName", "TrainingJobArn", *_TIMES, "TrainingJobStatus", "FailureReason")
_FINAL = "FinalHyperParameterTuningJobObjectiveMetric"


def objective_of(record: Record, metric: str) -> float | None:
    series = record.series.get(metric)
    return series[-1][1] if series else None


def child_summary(record: Record, tuning_job: Members) -> dict[str, Any]:
    description = record.description
    objective = tuning_job["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    found = {name: description[name] for name in _COPIED if name in description}
    found["TunedHyperParameters"] = record.tuned
    value = objective_of(record, objective["MetricName"])
    status = description["TrainingJobStatus"]
    if status not in ENDED:
        return found | {"ObjectiveStatus": "Pending"}
    if status == "Failed" or value is None:
        return found | {"ObjectiveStatus": "Failed"}
    final = {"Type": objective["Type"], "MetricName": objective["MetricName"], "Value": value}
    return found | {"ObjectiveStatus": "Succeeded", _FINAL: final}


def best(summaries: Sequence[Members], sign: int) -> Members | None:
    known = [summary for summary in summaries if _FINAL in summary]
    return min(known, key=lambda summary: sign * summary[_FINAL]["Value"], default=None)


def update_counters(tuning_job: dict[str, Any], summaries: Sequence[Members]) -> None:
    statuses = [summary["TrainingJobStatus"] for summary in summaries]
    outcomes = [summary["ObjectiveStatus"] for summary in summaries]
    tuning_job["TrainingJobStatusCounters"] = {
        "Completed": statuses.count("Completed"),
        "InProgress": sum(status not in ENDED for status in statuses),
        "RetryableError": 0,
        "NonRetryableError": statuses.count("Failed"),
        "Stopped": statuses.count("Stopped"),
    }
    tuning_job["ObjectiveStatusCounters"] = {name: outcomes.count(name) for name in ("Succeeded", "Pending", "Failed")}

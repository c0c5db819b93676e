"""The operations on training jobs."""

import time
from collections.abc import Mapping
from typing import Any

from local_sagemaker.admission import check_training_job
from local_sagemaker.calls import Call, Operation, invalid
from local_sagemaker.context import Context
from local_sagemaker.records import Record
from local_sagemaker.training.run import TrainingRun

# Members of an answer that a request can leave open.
_ALWAYS = ("EnableNetworkIsolation", "EnableManagedSpotTraining")
_LISTED = ("TrainingJobStatus", "SecondaryStatus", "TrainingEndTime", "LastModifiedTime")


class TrainingJobs:
    """All training jobs, and those of them that run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._runs: dict[str, TrainingRun] = {}

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateTrainingJob": self.create,
            "DescribeTrainingJob": self._context.records.describe,
            "ListTrainingJobs": lambda call: self._context.records.listed(call, "TrainingJobSummaries", _LISTED),
            "StopTrainingJob": self._stop,
        }

    def create(
        self, call: Call, tuning_job: str | None = None, tuned: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        """Accepts a job and starts it; `tuning_job` is the ARN of the one that it is part of."""
        check_training_job(call.body, self._context.objects, self._context.faults)
        name = call.body["TrainingJobName"]
        with self._context.changed:
            record = self._context.records.create(call, _members(call.body, tuning_job), tuned)
            faults = self._context.faults
            begun = sum(run.faults is faults for run in self._runs.values())
            capacity = begun >= faults.capacity_errors
            self._runs[name] = TrainingRun(record, self._context, call.region, capacity)
            self._runs[name].start()
        return {"TrainingJobArn": record.description["TrainingJobArn"]}

    def stop(self, record: Record) -> None:
        """Asks a job to end; one that has ended already stays as it is."""
        with self._context.changed:
            if self._context.records.ended(record):
                return
            record.description["TrainingJobStatus"] = "Stopping"
            self._context.records.touch(record)
            self._runs[record.description["TrainingJobName"]].stop()

    def close(self) -> None:
        self._context.end(self._runs)

    def _stop(self, call: Call) -> Mapping[str, Any]:
        record = self._context.records[call.body["TrainingJobName"]]
        if self._context.records.ended(record):
            status = record.description["TrainingJobStatus"]
            raise invalid(f"The request was rejected because the training job is in status {status}.")
        self.stop(record)
        return {}


def _members(request: Mapping[str, Any], tuning_job: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {name: request.get(name, False) for name in _ALWAYS}
    found |= {
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "SecondaryStatusTransitions": [],
        "FinalMetricDataList": [],
    }
    if tuning_job is not None:
        found["TuningJobArn"] = tuning_job
    for rules, statuses in (
        ("DebugRuleConfigurations", "DebugRuleEvaluationStatuses"),
        ("ProfilerRuleConfigurations", "ProfilerRuleEvaluationStatuses"),
    ):
        if request.get(rules):
            found[statuses] = [
                {
                    "RuleConfigurationName": rule["RuleConfigurationName"],
                    "RuleEvaluationStatus": "InProgress",
                    "LastModifiedTime": time.time(),
                }
                for rule in request[rules]
            ]
    return found

"""The operations on training jobs."""

import time
from collections.abc import Mapping
from typing import Any

from local_sagemaker.admission import check_training_job
from local_sagemaker.calls import Call, Members, Operation
from local_sagemaker.context import Jobs
from local_sagemaker.training.run import TrainingRun

# Members of an answer that a request can leave open.
_ALWAYS = ("EnableNetworkIsolation", "EnableManagedSpotTraining")
_LISTED = ("TrainingJobStatus", "SecondaryStatus", "TrainingEndTime", "LastModifiedTime")
_ENDED = "The request was rejected because the training job is in status {}."


class TrainingJobs(Jobs):
    """All training jobs, and those of them that run."""

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateTrainingJob": self.create,
            "DescribeTrainingJob": self._records.describe,
            "ListTrainingJobs": lambda call: self._records.listed(call, "TrainingJobSummaries", _LISTED),
            "StopTrainingJob": lambda call: self.asked_to_stop(call, _ENDED),
        }

    def create(self, call: Call, tuning_job: str | None = None, tuned: Mapping[str, str] | None = None) -> Members:
        """Accepts a job and starts it; `tuning_job` is the ARN of the one that it is part of."""
        check_training_job(call.body, self._context.objects, self._context.faults)
        with self._context.changed:
            record = self._records.create(call, _members(call.body, tuning_job), tuned)
            faults = self._context.faults
            begun = sum(isinstance(run, TrainingRun) and run.faults is faults for run in self._runs.values())
            capacity = begun >= faults.capacity_errors
            return self.begin(record, TrainingRun(record, self._context, call.region, capacity))


def _members(request: Members, tuning_job: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {name: request.get(name, False) for name in _ALWAYS}
    found |= {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Starting"}
    found |= {"SecondaryStatusTransitions": [], "FinalMetricDataList": []}
    if tuning_job is not None:
        found["TuningJobArn"] = tuning_job
    begun = {"RuleEvaluationStatus": "InProgress", "LastModifiedTime": time.time()}
    for kind in ("DebugRule", "ProfilerRule"):
        if rules := request.get(f"{kind}Configurations"):
            names = [{"RuleConfigurationName": rule["RuleConfigurationName"]} for rule in rules]
            found[f"{kind}EvaluationStatuses"] = [{**name, **begun} for name in names]
    return found

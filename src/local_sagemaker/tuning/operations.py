"""The operations on tuning jobs."""

from collections.abc import Mapping
from typing import Any

from local_sagemaker.admission import check_training_job
from local_sagemaker.calls import ApiError, Call, Members, Operation, invalid
from local_sagemaker.context import Context, Jobs
from local_sagemaker.records import Record, Records, page
from local_sagemaker.training.operations import TrainingJobs
from local_sagemaker.tuning.summaries import child_summary, update_counters

_KIND = "HyperParameterTuningJob"
_COUNTERS = ("TrainingJobStatusCounters", "ObjectiveStatusCounters")
_LISTED = (f"{_KIND}Status", "Strategy", "HyperParameterTuningEndTime", "LastModifiedTime", *_COUNTERS)
# The quota of a new account; `rules.jobs` has the highest that AWS grants.
_PARALLEL_QUOTA = 10
_ENDED = "The tuning job is in status {} and cannot be stopped."


class TuningJobs(Jobs):
    """All tuning jobs, and those of them that run; their training jobs are not theirs to end."""

    def __init__(self, records: Records, context: Context, jobs: TrainingJobs) -> None:
        super().__init__(records, context)
        self._jobs = jobs

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateHyperParameterTuningJob": self._create,
            "DescribeHyperParameterTuningJob": self._records.describe,
            "ListHyperParameterTuningJobs": lambda call: self._records.listed(call, f"{_KIND}Summaries", _LISTED),
            "ListTrainingJobsForHyperParameterTuningJob": self._children,
            "StopHyperParameterTuningJob": lambda call: self.asked_to_stop(call, _ENDED),
        }

    def _create(self, call: Call) -> Members:
        from local_sagemaker.tuning.run import TuningRun

        request = call.body
        parallel = request[f"{_KIND}Config"]["ResourceLimits"]["MaxParallelTrainingJobs"]
        if parallel > _PARALLEL_QUOTA:
            most = f"An account may run {_PARALLEL_QUOTA} training jobs of a tuning job at once"
            raise ApiError("ResourceLimitExceeded", f"{most} unless its quota was raised; got {parallel}.")
        check_training_job(request["TrainingJobDefinition"], self._context.objects, self._context.faults)
        known = self._parents(request)
        members: dict[str, Any] = {"HyperParameterTuningJobStatus": "InProgress"}
        update_counters(members, [])
        with self._context.changed:
            record = self._records.create(call, members)
            return self.begin(record, TuningRun(record, self._records, self._context, self._jobs, known))

    def _parents(self, request: Members) -> list[Record]:
        found = []
        for parent in request.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", []):
            record = self._records[parent["HyperParameterTuningJobName"]]
            name = record.description["HyperParameterTuningJobName"]
            if not self._records.ended(record):
                raise invalid(f"The parent {name} is still running: a warm start needs tuning jobs that have ended.")
            objective = "HyperParameterTuningJobObjective"
            if record.description[f"{_KIND}Config"][objective] != request[f"{_KIND}Config"][objective]:
                raise invalid(f"The parent {name} has another objective, which a warm start cannot go on from.")
            found += self._of(record)
        return found

    def _of(self, record: Record) -> list[Record]:
        arn = record.description["HyperParameterTuningJobArn"]
        return [child for child in self._context.records if child.description.get("TuningJobArn") == arn]

    def _children(self, call: Call) -> Members:
        with self._context.changed:
            record = self._records[call.body["HyperParameterTuningJobName"]]
            children = [child_summary(child, record.description) for child in self._of(record)]
            return page(call.body, "TrainingJobSummaries", children, "TrainingJob")

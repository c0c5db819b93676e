"""Runs a tuning job: starts training jobs, follows their objective, and keeps the best."""

import hashlib
import logging
import math
import statistics
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import Trial

from local_sagemaker.calls import ApiError, Call, Members
from local_sagemaker.context import CLOSED, Context
from local_sagemaker.records import Record, Records
from local_sagemaker.rules.jobs import OBJECTIVE_PARAMETER, combinations
from local_sagemaker.training.operations import TrainingJobs
from local_sagemaker.tuning.sampler import Sampler
from local_sagemaker.tuning.summaries import best, child_summary, objective_of, update_counters

_LOG = logging.getLogger(__name__)
_TICK_SECONDS = 0.5
# Jobs that must have ended before the median rule applies; AWS does not document the number.
_JOBS_BEFORE_THE_MEDIAN = 2


@dataclass
class Child:
    """A training job: how many values of its objective were looked at, and whether the sampler knows the result."""

    record: Record
    trial: Trial
    seen: int = 0
    told: bool = False


class TuningRun(threading.Thread):
    """Runs one tuning job; `known` are training jobs of the tuning jobs that it learns from."""

    def __init__(
        self, record: Record, records: Records, context: Context, jobs: TrainingJobs, known: Sequence[Record]
    ) -> None:
        super().__init__(name=record.description["HyperParameterTuningJobName"])
        self._record, self._job, self._records = record, record.description, records
        self._context, self._jobs = context, jobs
        self._config: Members = self._job["HyperParameterTuningJobConfig"]
        self._objective = self._config["HyperParameterTuningJobObjective"]["MetricName"]
        self._sign = 1 if self._config["HyperParameterTuningJobObjective"]["Type"] == "Minimize" else -1
        self._limits = self._config["ResourceLimits"]
        self._known = known
        self._children: list[Child] = []
        self._stopping = self._closing = False

    def stop(self) -> None:
        with self._context.changed:
            self._stopping = True
            self._context.changed.notify_all()

    def close(self) -> None:
        """Starts no more, since the service ends; its training jobs are ended by who owns them."""
        with self._context.changed:
            self._closing = True
            self._context.changed.notify_all()

    def run(self) -> None:
        try:
            self._live()
        except ApiError as error:
            self._finish("Failed", f"A training job was refused: {error}")
        except Exception as error:
            _LOG.exception("The service failed to run %s", self.name)
            self._finish("Failed", f"InternalServerError: {type(error).__name__}: {error}")

    def _live(self) -> None:
        sampler = Sampler(self._config, self._config.get("RandomSeed", zlib.crc32(self.name.encode())))
        results = [(known.tuned, objective_of(known, self._objective)) for known in self._known]
        sampler.learn((values, value) for values, value in results if value is not None)
        grid = self._config["Strategy"] == "Grid"
        count = combinations(self._config) if grid else self._limits["MaxNumberOfTrainingJobs"]
        with self._context.changed:
            while not self._closing:
                for child in self._children:
                    self._look(child, sampler)
                running = [child for child in self._children if not child.told]
                seconds = time.time() - self._job["CreationTime"]
                # It was stopped, or took too long.
                if self._stopping or seconds > self._limits.get("MaxRuntimeInSeconds", math.inf):
                    for child in running:
                        self._jobs.stop(child.record)
                    count = len(self._children)
                while len(running) < self._limits["MaxParallelTrainingJobs"] and len(self._children) < count:
                    running.append(self._start(sampler))
                self._summarize()
                if not running:
                    break
                self._context.changed.wait(_TICK_SECONDS)
        self._end()

    def _start(self, sampler: Sampler) -> Child:
        trial, values = sampler.ask()
        number = len(self._children) + 1
        digest = hashlib.sha256(f"{self._job['HyperParameterTuningJobArn']}/{number}".encode()).hexdigest()
        name = f"{self.name}-{number:03d}-{digest[:8]}"
        region = self._job["HyperParameterTuningJobArn"].split(":")[3]
        request = training_request(name, self._job, values)
        self._jobs.create(Call(region, request), self._job["HyperParameterTuningJobArn"], values)
        self._children.append(Child(self._context.records[name], trial))
        return self._children[-1]

    def _look(self, child: Child, sampler: Sampler) -> None:
        """Learns what is new of a training job, and ends it where it falls behind."""
        if child.told:
            return
        if self._context.records.ended(child.record):
            child.told = True
            failed = child.record.description["TrainingJobStatus"] == "Failed"
            sampler.tell(child.trial, None if failed else objective_of(child.record, self._objective))
            return
        series = self._series(child.record)
        if len(series) == child.seen:
            return
        if self._config["Strategy"] == "Hyperband":
            new = [(epoch, series[epoch - 1]) for epoch in range(child.seen + 1, len(series) + 1)]
            behind = sampler.falls_behind(child.trial, new)
        else:
            behind = self._config.get("TrainingJobEarlyStoppingType") == "Auto" and self._is_below_median(series)
        child.seen = len(series)
        if behind:
            self._jobs.stop(child.record)

    def _is_below_median(self, series: Sequence[float]) -> bool:
        """Compares a job with the median of the running averages that the jobs before it had after as many epochs."""
        epoch = len(series)
        others = [self._series(child.record) for child in self._children if child.told]
        averages = [self._sign * statistics.mean(other[:epoch]) for other in others if len(other) >= epoch]
        if len(averages) < _JOBS_BEFORE_THE_MEDIAN:
            return False
        return self._sign * series[-1] > statistics.median(averages)

    def _series(self, record: Record) -> list[float]:
        return [value for _, value in record.series.get(self._objective, [])]

    def _summarize(self) -> None:
        before = str({**self._job, "LastModifiedTime": None})
        summaries = [child_summary(child.record, self._job) for child in self._children]
        update_counters(self._job, summaries)
        if (winner := best(summaries, self._sign)) is not None:
            self._job["BestTrainingJob"] = winner
        if str({**self._job, "LastModifiedTime": None}) != before:
            self._records.touch(self._record)

    def _end(self) -> None:
        if self._closing:
            self._finish("Failed", CLOSED)
        elif self._stopping:
            self._finish("Stopped", None)
        elif all(child.record.description["TrainingJobStatus"] == "Failed" for child in self._children):
            self._finish("Failed", "All training jobs failed. See their failure reasons.")
        else:
            self._finish("Completed", None)

    def _finish(self, status: str, reason: str | None) -> None:
        with self._context.changed:
            self._summarize()
            self._job["HyperParameterTuningJobStatus"] = status
            self._job["HyperParameterTuningEndTime"] = time.time()
            if reason is not None:
                self._job["FailureReason"] = reason
            self._records.touch(self._record)


def training_request(name: str, tuning_job: Members, values: Mapping[str, str]) -> dict[str, Any]:
    """Returns the request of a training job of a tuning job: its request, or what Describe answers."""
    definition = tuning_job["TrainingJobDefinition"]
    config = tuning_job["HyperParameterTuningJobConfig"]
    objective = {OBJECTIVE_PARAMETER: config["HyperParameterTuningJobObjective"]["MetricName"]}
    others = {key: value for key, value in definition.items() if key != "StaticHyperParameters"}
    return {
        **others,
        "TrainingJobName": name,
        "HyperParameters": {**definition.get("StaticHyperParameters", {}), **values, **objective},
    }

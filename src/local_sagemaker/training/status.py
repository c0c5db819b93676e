"""Keeps the record of a training job up to date."""

import math
import re
import time
from collections.abc import Sequence
from enum import Enum
from typing import Any

from local_sagemaker.context import Context
from local_sagemaker.records import Record

#: Characters of a FailureReason.
MAX_REASON = 1024
# Price of Spot capacity as a share of the full price: an assumption, since it varies.
_SPOT_PRICE = 0.3
_NO_EVALUATOR = "Not evaluated: the local service has none of the rules that AWS manages."


class End(Enum):
    """Why training is over, by the secondary status that tells it."""

    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    MAX_RUNTIME = "MaxRuntimeExceeded"
    MAX_WAIT = "MaxWaitTimeExceeded"
    INTERRUPTED = "Interrupted"
    CLOSED = "closed"


class Progress:
    """Updates the record of a job; each change is visible completely or not at all."""

    def __init__(self, record: Record, context: Context) -> None:
        self._record, self._job, self._context = record, record.description, context
        definitions = self._job["AlgorithmSpecification"].get("MetricDefinitions", [])
        self._metrics = [(each["Name"], re.compile(each["Regex"])) for each in definitions]

    def begin(self) -> None:
        with self._context.changed:
            self._job.setdefault("TrainingStartTime", time.time())
            self.save()

    def note_model(self, uri: str) -> None:
        with self._context.changed:
            self._job["ModelArtifacts"] = {"S3ModelArtifacts": uri}

    def read(self, lines: Sequence[str]) -> None:
        """Records the metrics in some lines of the log."""
        found = [
            (name, value)
            for line in lines
            for name, pattern in self._metrics
            if (match := pattern.search(line)) and (value := _number(match[1])) is not None
        ]
        if found:
            with self._context.changed:
                for name, value in found:
                    self._record.series.setdefault(name, []).append((time.time(), value))
                self.save()

    def enter(self, secondary: str, message: str) -> None:
        with self._context.changed:
            transitions: list[dict[str, Any]] = self._job["SecondaryStatusTransitions"]
            now = time.time()
            if transitions:
                transitions[-1]["EndTime"] = now
            transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
            self._job["SecondaryStatus"] = secondary
            self.save()

    def finish(self, end: End, reason: str | None, trained: float) -> None:
        with self._context.changed:
            job = self._job
            job["TrainingEndTime"] = time.time()
            if trained:
                seconds = math.ceil(trained)
                price = _SPOT_PRICE if job["EnableManagedSpotTraining"] else 1.0
                job["TrainingTimeInSeconds"], job["BillableTimeInSeconds"] = seconds, max(1, int(price * seconds))
            if reason is not None:
                job["FailureReason"] = reason[:MAX_REASON]
            for name in ("DebugRuleEvaluationStatuses", "ProfilerRuleEvaluationStatuses"):
                for status in job.get(name, []):
                    status |= {"RuleEvaluationStatus": "NoIssuesFound", "StatusDetails": _NO_EVALUATOR}
                    status["LastModifiedTime"] = time.time()
            status = {End.COMPLETED: "Completed", End.FAILED: "Failed"}.get(end, "Stopped")
            self.enter(end.value, reason[:MAX_REASON] if reason else f"Training job {status.lower()}")
            job["SecondaryStatusTransitions"][-1]["EndTime"] = time.time()
            job["TrainingJobStatus"] = status
            self.save()

    def save(self) -> None:
        with self._context.changed:
            self._job["FinalMetricDataList"] = [
                {"MetricName": name, "Value": series[-1][1], "Timestamp": series[-1][0]}
                for name, series in self._record.series.items()
            ]
            self._context.records.touch(self._record)


def _number(text: str | None) -> float | None:
    """Returns the number that a metric's group matched; None where the service would ignore it."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None

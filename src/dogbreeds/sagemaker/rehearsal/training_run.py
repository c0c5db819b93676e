"""The life of a training job, from its machines to its archives."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from dogbreeds.sagemaker.rehearsal.checks import DEFAULT_RUNTIME
from dogbreeds.sagemaker.rehearsal.faults import Faults, JobFailure
from dogbreeds.sagemaker.rehearsal.logs import Logs
from dogbreeds.sagemaker.rehearsal.machine import Machine
from dogbreeds.sagemaker.rehearsal.objects import NoBucketError, Objects
from dogbreeds.sagemaker.rehearsal.outputs import Synced, upload_archive
from dogbreeds.sagemaker.rehearsal.records import Record, Records
from dogbreeds.sagemaker.rehearsal.toolkit import Toolkit

_LOG = logging.getLogger(__name__)
# From one look at clocks and checkpoints to the next.
_TICK_SECONDS = 0.1
_SYNC_SECONDS = 1.0
# What FailureReason has room for.
_LONGEST_REASON = 1024
# What spare machines cost, of the full price: about what AWS shows.
_SPOT_PRICE = 0.3
#: FailureReason of jobs that were running when their rehearsal ended.
CLOSED = "InternalServerError: the rehearsal ended while this job was running."
_NO_EVALUATOR = "Not evaluated: a rehearsal has none of the rules that AWS manages."


class End(Enum):
    """Why training is over, by the secondary status that tells it."""

    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    MAX_RUNTIME = "MaxRuntimeExceeded"
    MAX_WAIT = "MaxWaitTimeExceeded"
    INTERRUPTED = "Interrupted"
    CLOSED = "closed"


@dataclass(frozen=True)
class Premises:
    """What all jobs of a rehearsal share: their records, buckets and logs, the faults, where machines stand."""

    records: Records
    objects: Objects
    logs: Logs
    faults: Faults
    machines: Path
    url: str
    changed: threading.Condition


class TrainingRun(threading.Thread):
    """Runs one training job; its record tells how far it is."""

    def __init__(self, record: Record, premises: Premises, region: str, capacity: bool) -> None:
        """Takes a job that was accepted.

        Args:
            record: The job.
            premises: Everything that it shares with others.
            region: Where it runs.
            capacity: Whether there are machines for it.
        """
        super().__init__(name=record.description["TrainingJobName"])
        self._record, self._job, self._premises = record, record.description, premises
        self._region, self._capacity = region, capacity
        self._machine = Machine(premises.machines / self.name)
        self._stream = premises.logs.open(self.name)
        definitions = self._job["AlgorithmSpecification"].get("MetricDefinitions", [])
        self._metrics = [(each["Name"], re.compile(each["Regex"])) for each in definitions]
        self._stop_asked, self._close_asked = threading.Event(), threading.Event()
        self._interruption = premises.faults.interrupt_after if self._job["EnableManagedSpotTraining"] else None
        self._trained, self._exit_code = 0.0, 0

    def stop(self) -> None:
        """Asks the job to end, as StopTrainingJob does."""
        self._stop_asked.set()

    def close(self) -> None:
        """Ends the job at once, since the rehearsal ends."""
        self._close_asked.set()

    def run(self) -> None:
        """Lives the job's life."""
        try:
            self._live()
        except JobFailure as failure:
            self._finish(End.FAILED, str(failure))
        except NoBucketError as error:
            self._finish(End.FAILED, f"ClientError: Artifact upload failed: {error}.")
        except Exception as error:
            _LOG.exception("The rehearsal failed to run %s", self.name)
            self._finish(End.FAILED, f"InternalServerError: {type(error).__name__}: {error}")
        finally:
            self._stream.close()
            self._machine.remove()

    def _live(self) -> None:
        self._enter("Starting", "Launching requested ML instances")
        if not self._capacity:
            raise JobFailure(
                "CapacityError: Unable to provision requested ML compute capacity. "
                "Please retry using a different ML instance type or after some time."
            )
        while (end := self._attempt()) is End.INTERRUPTED:
            self._enter("Interrupted", "Spot capacity was taken back")
            self._enter("Restarting", "Waiting for spot capacity")
        if end is End.CLOSED:
            self._finish(End.FAILED, CLOSED)
            return
        reason = self._failure() if end is End.FAILED else None
        self._enter("Uploading", "Uploading generated training model")
        began = time.monotonic()
        self._upload(end)
        self._trained += time.monotonic() - began
        self._finish(end, reason)

    def _attempt(self) -> End:
        """Runs the job on a fresh machine until it ends or loses the machine."""
        self._enter("Downloading", "Downloading input data")
        self._machine.prepare(self._job, self._premises.objects)
        if self._close_asked.is_set() or self._stop_asked.is_set():
            return End.CLOSED if self._close_asked.is_set() else End.STOPPED
        self._enter("Training", "Training image download completed. Training in progress.")
        self._job.setdefault("TrainingStartTime", time.time())
        began = time.monotonic()
        environment = self._machine.environment(self._job, self._region, self._premises.url)
        toolkit = Toolkit(self._machine.directory, environment)
        try:
            self._record.process = toolkit.identity
            self._save()
            end = self._follow(toolkit, began)
        finally:
            self._exit_code = toolkit.close()
            self._record.process = None
            self._trained += time.monotonic() - began
        if end is None:
            return End.COMPLETED if self._exit_code == 0 else End.FAILED
        return end

    def _follow(self, toolkit: Toolkit, began: float) -> End | None:
        """Reads what the toolkit writes until nobody is left who could write, or somebody ends it.

        Returns:
            Why it was ended; None where it ended by itself.
        """
        synced = self._checkpoints()
        end, asked, looked, saved = None, 0.0, began, 0
        while (lines := toolkit.lines(_TICK_SECONDS)) is not None:
            for line in lines:
                self._read(line)
            if (count := sum(map(len, self._record.series.values()))) != saved:
                saved = count
                self._save()
            now = time.monotonic()
            if synced is not None and now - looked > _SYNC_SECONDS:
                synced.update()
                looked = now
            if end is None and (end := self._reason(now - began)) is not None:
                asked = now
                if end in (End.CLOSED, End.INTERRUPTED):
                    toolkit.kill()
                else:
                    self._enter("Stopping", "Stopping the training job")
                    toolkit.terminate()
            # A container ends with its first process, whatever that has left running.
            if now - asked > self._premises.faults.grace_seconds if end is not None else not toolkit.running:
                toolkit.kill()
        if synced is not None and end is not End.INTERRUPTED:
            synced.update()
        return end

    def _reason(self, seconds: float) -> End | None:
        """Returns why training has to end after so many seconds of this attempt, if it has to."""
        condition = self._job["StoppingCondition"]
        if self._close_asked.is_set():
            return End.CLOSED
        if self._stop_asked.is_set():
            return End.STOPPED
        if self._trained + seconds > condition.get("MaxRuntimeInSeconds", DEFAULT_RUNTIME):
            return End.MAX_RUNTIME
        if time.time() - self._job["CreationTime"] > condition.get("MaxWaitTimeInSeconds", math.inf):
            return End.MAX_WAIT
        if self._interruption is not None and seconds > self._interruption:
            self._interruption = None
            return End.INTERRUPTED
        return None

    def _read(self, line: str) -> None:
        self._stream.add(line)
        for name, pattern in self._metrics:
            found = pattern.search(line)
            value = _number(found[1]) if found else None
            if value is not None:
                with self._premises.changed:
                    self._record.series.setdefault(name, []).append((time.time(), value))

    def _checkpoints(self) -> Synced | None:
        if "CheckpointConfig" not in self._job:
            return None
        uri = self._job["CheckpointConfig"]["S3Uri"]
        return Synced(self._machine.checkpoints, uri, self._premises.objects, restored=True)

    def _upload(self, end: End) -> None:
        objects, scratch = self._premises.objects, self._machine.directory
        root = f"{self._job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.name}"
        upload_archive(self._machine.output / "data", f"{root}/output/output.tar.gz", objects, scratch)
        if end is not End.FAILED:
            uri = f"{root}/output/model.tar.gz"
            if upload_archive(self._machine.model, uri, objects, scratch):
                self._job["ModelArtifacts"] = {"S3ModelArtifacts": uri}
        if "DebugHookConfig" in self._job and self._machine.tensors.is_dir():
            root = f"{self._job['DebugHookConfig']['S3OutputPath'].rstrip('/')}/{self.name}/debug-output"
            Synced(self._machine.tensors, root, objects, restored=False).update()

    def _failure(self) -> str:
        path = self._machine.output / "failure"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        code = f", exit code: {self._exit_code}"
        return f"AlgorithmError: {text}"[: _LONGEST_REASON - len(code)] + code

    def _enter(self, secondary: str, message: str) -> None:
        """Writes down the next stage."""
        with self._premises.changed:
            transitions: list[dict[str, Any]] = self._job["SecondaryStatusTransitions"]
            now = time.time()
            if transitions:
                transitions[-1]["EndTime"] = now
            transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
            self._job["SecondaryStatus"] = secondary
            self._save()

    def _finish(self, end: End, reason: str | None) -> None:
        """Writes down how the job ended."""
        with self._premises.changed:
            job = self._job
            job["TrainingEndTime"] = time.time()
            if self._trained:
                job["TrainingTimeInSeconds"] = max(1, math.ceil(self._trained))
                price = _SPOT_PRICE if job["EnableManagedSpotTraining"] else 1.0
                job["BillableTimeInSeconds"] = max(1, int(price * self._trained))
            if reason is not None:
                job["FailureReason"] = reason[:_LONGEST_REASON]
            for name in ("DebugRuleEvaluationStatuses", "ProfilerRuleEvaluationStatuses"):
                for status in job.get(name, []):
                    status |= {"RuleEvaluationStatus": "NoIssuesFound", "StatusDetails": _NO_EVALUATOR}
                    status["LastModifiedTime"] = time.time()
            status = {End.COMPLETED: "Completed", End.FAILED: "Failed"}.get(end, "Stopped")
            self._enter(end.value, reason[:_LONGEST_REASON] if reason else f"Training job {status.lower()}")
            job["SecondaryStatusTransitions"][-1]["EndTime"] = time.time()
            job["TrainingJobStatus"] = status
            self._save()

    def _save(self) -> None:
        with self._premises.changed:
            self._job["FinalMetricDataList"] = final_metrics(self._record)
            self._premises.records.save(self._record)


def final_metrics(record: Record) -> Sequence[dict[str, Any]]:
    """Returns the last value of each metric."""
    return [
        {"MetricName": name, "Value": series[-1][1], "Timestamp": series[-1][0]}
        for name, series in record.series.items()
    ]


def _number(text: str | None) -> float | None:
    """Returns what a metric's group has found; None for what the service takes no notice of."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None

"""Runs a training job, from its start to its archives."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence

from local_sagemaker.context import CLOSED, Context
from local_sagemaker.errors import JobFailure
from local_sagemaker.records import Record
from local_sagemaker.rules.jobs import DEFAULT_RUNTIME_SECONDS
from local_sagemaker.s3.objects import NoBucketError
from local_sagemaker.training.artifacts import MirroredDirectory, upload_archive
from local_sagemaker.training.instance import Instance
from local_sagemaker.training.status import MAX_REASON, End, Progress
from local_sagemaker.training.toolkit import Toolkit

_LOG = logging.getLogger(__name__)
# Between two looks at clocks, and between two copies of checkpoints.
_TICK_SECONDS = 0.1
_SYNC_SECONDS = 1.0


class TrainingRun(threading.Thread):
    """Runs one training job; its record tells how far it is. `capacity` says whether there are instances for it."""

    def __init__(self, record: Record, context: Context, region: str, capacity: bool) -> None:
        super().__init__(name=record.description["TrainingJobName"])
        self._job, self._context, self._faults = record.description, context, context.faults
        self._region, self._capacity = region, capacity
        self._instance = Instance(context.machines / self.name)
        self._stream = context.logs.open(self.name)
        self._progress = Progress(record, context)
        self._stop_asked, self._close_asked = threading.Event(), threading.Event()
        self._interruptible = self._job["EnableManagedSpotTraining"]
        self._trained, self._exit_code = 0.0, 0

    def stop(self) -> None:
        self._stop_asked.set()

    def close(self) -> None:
        self._close_asked.set()

    def run(self) -> None:
        try:
            self._live()
        except JobFailure as failure:
            self._progress.finish(End.FAILED, str(failure), self._trained)
        except NoBucketError as error:
            self._progress.finish(End.FAILED, f"ClientError: Artifact upload failed: {error}.", self._trained)
        except Exception as error:
            _LOG.exception("The service failed to run %s", self.name)
            self._progress.finish(End.FAILED, f"InternalServerError: {type(error).__name__}: {error}", self._trained)
        finally:
            self._instance.remove()

    def _live(self) -> None:
        self._progress.enter("Starting", "Launching requested ML instances")
        if not self._capacity:
            raise JobFailure(
                "CapacityError: Unable to provision requested ML compute capacity. "
                "Please retry using a different ML instance type or after some time."
            )
        while (end := self._attempt()) is End.INTERRUPTED:
            self._progress.enter("Interrupted", "Spot capacity was taken back")
            self._progress.enter("Restarting", "Waiting for spot capacity")
        if end is End.CLOSED:
            self._progress.finish(End.FAILED, CLOSED, self._trained)
            return
        reason = self._failure() if end is End.FAILED else None
        self._progress.enter("Uploading", "Uploading generated training model")
        began = time.monotonic()
        self._upload(end)
        self._trained += time.monotonic() - began
        self._progress.finish(end, reason, self._trained)

    def _attempt(self) -> End:
        """Runs the job on a new instance until it ends or loses it."""
        self._progress.enter("Downloading", "Downloading input data")
        self._instance.prepare(self._job, self._context.objects)
        if self._close_asked.is_set() or self._stop_asked.is_set():
            return End.CLOSED if self._close_asked.is_set() else End.STOPPED
        self._progress.enter("Training", "Training image download completed. Training in progress.")
        began = time.monotonic()
        environment = self._instance.environment(self._job, self._region, self._context)
        # Before anything is written: what is there now came from S3.
        mirrored = self._checkpoints()
        toolkit = Toolkit(self._context.toolkit, self._instance.directory, environment)
        try:
            self._progress.begin()
            end = self._follow(toolkit, mirrored, began)
        finally:
            self._exit_code = toolkit.close()
            self._trained += time.monotonic() - began
        if end is None:
            return End.COMPLETED if self._exit_code == 0 else End.FAILED
        return end

    def _follow(self, toolkit: Toolkit, mirrored: MirroredDirectory | None, began: float) -> End | None:
        """Reads the toolkit's output until no process is left that could write; returns why it was ended, or None."""
        end, kill_at, next_copy = None, math.inf, began + _SYNC_SECONDS
        while (lines := toolkit.lines(_TICK_SECONDS)) is not None:
            for line in lines:
                self._stream.add(line)
            self._progress.read(lines)
            now = time.monotonic()
            if end is None and (end := self._reason(now - began, lines)) is not None:
                kill_at = now + self._end(toolkit, end)
                next_copy = now
            if mirrored is not None and now >= next_copy:
                mirrored.update()
                next_copy = now + _SYNC_SECONDS
            # A container ends with its first process, whatever that has left running.
            if now >= kill_at or (end is None and not toolkit.running):
                toolkit.kill()
        if mirrored is not None and end is not End.INTERRUPTED:
            mirrored.update()
        return end

    def _end(self, toolkit: Toolkit, end: End) -> float:
        """Asks the toolkit to end, and returns the seconds until it is killed."""
        if end in (End.CLOSED, End.INTERRUPTED):
            return 0.0
        self._progress.enter("Stopping", "Stopping the training job")
        toolkit.terminate()
        return self._faults.grace_seconds

    def _reason(self, seconds: float, lines: Sequence[str]) -> End | None:
        condition, faults = self._job["StoppingCondition"], self._faults
        if self._close_asked.is_set():
            return End.CLOSED
        if self._stop_asked.is_set():
            return End.STOPPED
        if self._trained + seconds > condition.get("MaxRuntimeInSeconds", DEFAULT_RUNTIME_SECONDS):
            return End.MAX_RUNTIME
        if time.time() - self._job["CreationTime"] > condition.get("MaxWaitTimeInSeconds", math.inf):
            return End.MAX_WAIT
        late = faults.interrupt_after is not None and seconds > faults.interrupt_after
        said = faults.interrupt_on is not None and any(faults.interrupt_on in line for line in lines)
        if self._interruptible and (late or said):
            self._interruptible = False
            return End.INTERRUPTED
        return None

    def _checkpoints(self) -> MirroredDirectory | None:
        if "CheckpointConfig" not in self._job:
            return None
        uri = self._job["CheckpointConfig"]["S3Uri"]
        return MirroredDirectory(self._instance.checkpoints, uri, self._context.objects, restored=True)

    def _upload(self, end: End) -> None:
        objects, scratch = self._context.objects, self._instance.directory
        root = f"{self._job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.name}"
        upload_archive(self._instance.output / "data", f"{root}/output/output.tar.gz", objects, scratch)
        if end is not End.FAILED:
            uri = f"{root}/output/model.tar.gz"
            if upload_archive(self._instance.model, uri, objects, scratch):
                self._progress.note_model(uri)
        if "DebugHookConfig" in self._job and self._instance.tensors.is_dir():
            root = f"{self._job['DebugHookConfig']['S3OutputPath'].rstrip('/')}/{self.name}/debug-output"
            MirroredDirectory(self._instance.tensors, root, objects, restored=False).update()

    def _failure(self) -> str:
        path = self._instance.output / "failure"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        code = f", exit code: {self._exit_code}"
        return f"AlgorithmError: {text}"[: MAX_REASON - len(code)] + code

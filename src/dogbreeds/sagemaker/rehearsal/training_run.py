"""The life of a training job, from its machines to its archives."""

from __future__ import annotations

import logging
import math
import threading
import time

from dogbreeds.sagemaker.rehearsal.checks import DEFAULT_RUNTIME
from dogbreeds.sagemaker.rehearsal.faults import JobFailure
from dogbreeds.sagemaker.rehearsal.machine import Machine
from dogbreeds.sagemaker.rehearsal.objects import NoBucketError
from dogbreeds.sagemaker.rehearsal.outputs import Synced, upload_archive
from dogbreeds.sagemaker.rehearsal.premises import CLOSED, Premises
from dogbreeds.sagemaker.rehearsal.progress import LONGEST_REASON, End, Progress
from dogbreeds.sagemaker.rehearsal.records import Record
from dogbreeds.sagemaker.rehearsal.toolkit import Toolkit

_LOG = logging.getLogger(__name__)
# From one look at clocks and checkpoints to the next.
_TICK_SECONDS = 0.1
_SYNC_SECONDS = 1.0


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
        self._job, self._premises = record.description, premises
        self._region, self._capacity = region, capacity
        self._machine = Machine(premises.machines / self.name)
        self._stream = premises.logs.open(self.name)
        self._progress = Progress(record, premises)
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
            self._progress.finish(End.FAILED, str(failure), self._trained)
        except NoBucketError as error:
            self._progress.finish(End.FAILED, f"ClientError: Artifact upload failed: {error}.", self._trained)
        except Exception as error:
            _LOG.exception("The rehearsal failed to run %s", self.name)
            self._progress.finish(End.FAILED, f"InternalServerError: {type(error).__name__}: {error}", self._trained)
        finally:
            self._stream.close()
            self._machine.remove()

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
        """Runs the job on a fresh machine until it ends or loses the machine."""
        self._progress.enter("Downloading", "Downloading input data")
        self._machine.prepare(self._job, self._premises.objects)
        if self._close_asked.is_set() or self._stop_asked.is_set():
            return End.CLOSED if self._close_asked.is_set() else End.STOPPED
        self._progress.enter("Training", "Training image download completed. Training in progress.")
        began = time.monotonic()
        environment = self._machine.environment(self._job, self._region, self._premises.url)
        toolkit = Toolkit(self._machine.directory, environment)
        try:
            self._progress.begin(toolkit.identity)
            end = self._follow(toolkit, began)
        finally:
            self._exit_code = toolkit.close()
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
        end, asked, looked = None, 0.0, began
        while (lines := toolkit.lines(_TICK_SECONDS)) is not None:
            for line in lines:
                self._stream.add(line)
            self._progress.read(lines)
            now = time.monotonic()
            if synced is not None and now - looked > _SYNC_SECONDS:
                synced.update()
                looked = now
            if end is None and (end := self._reason(now - began)) is not None:
                asked = now
                if end in (End.CLOSED, End.INTERRUPTED):
                    toolkit.kill()
                else:
                    self._progress.enter("Stopping", "Stopping the training job")
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
                self._progress.note_model(uri)
        if "DebugHookConfig" in self._job and self._machine.tensors.is_dir():
            root = f"{self._job['DebugHookConfig']['S3OutputPath'].rstrip('/')}/{self.name}/debug-output"
            Synced(self._machine.tensors, root, objects, restored=False).update()

    def _failure(self) -> str:
        path = self._machine.output / "failure"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        code = f", exit code: {self._exit_code}"
        return f"AlgorithmError: {text}"[: LONGEST_REASON - len(code)] + code

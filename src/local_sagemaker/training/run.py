"""Runs a training job, from its start to its archives."""

import logging
import math
import threading
import time
from collections.abc import Sequence

from local_sagemaker.calls import JobFailure, Members
from local_sagemaker.context import CLOSED, Context
from local_sagemaker.records import Record
from local_sagemaker.rules.jobs import DEFAULT_RUNTIME_SECONDS
from local_sagemaker.s3.objects import MirroredDirectory, NoBucketError, upload_archive
from local_sagemaker.training.instance import Instance
from local_sagemaker.training.status import MAX_REASON, End, Progress
from local_sagemaker.training.toolkit import Toolkit

_LOG = logging.getLogger(__name__)
# Between two looks at clocks, and between two copies of checkpoints.
_TICK_SECONDS = 0.1
_SYNC_SECONDS = 1.0


class Host:
    """A prepared instance on which the toolkit has been started.

    All hosts of a job copy their checkpoints to the same place in S3, as on AWS: their names must differ.
    """

    def __init__(self, instance: Instance, job: Members, region: str, context: Context) -> None:
        self.instance = instance
        self._stream = context.logs.open(job["TrainingJobName"], instance.number)
        self._mirrored = None
        if "CheckpointConfig" in job:
            # Before anything is written: what is there now came from S3.
            uri = job["CheckpointConfig"]["S3Uri"]
            self._mirrored = MirroredDirectory(instance.checkpoints, uri, context.objects, restored=True)
        self.toolkit = Toolkit(context.toolkit, instance.directory, instance.environment(job, region, context))
        #: Whether a process is left that could write.
        self.writing = True

    def read(self, seconds: float) -> list[str]:
        """Returns new lines of output, waiting some seconds for one."""
        lines = self.toolkit.lines(seconds) if self.writing else []
        if lines is None:
            self.close()
        for line in lines or ():
            self._stream.add(line)
        return lines or []

    def kill(self) -> None:
        if self.writing:
            self.toolkit.kill()

    def close(self) -> None:
        """Kills what is left; once, because the number of a process that has ended may soon be another's."""
        if self.writing:
            self.writing = False
            self.toolkit.close()

    def copy_checkpoints(self) -> None:
        if self._mirrored is not None:
            self._mirrored.update()


class TrainingRun(threading.Thread):
    """Runs one training job; its record tells how far it is. `capacity` says whether there are instances for it."""

    def __init__(self, record: Record, context: Context, region: str, capacity: bool) -> None:
        super().__init__(name=record.description["TrainingJobName"])
        self._job, self._context, self.faults = record.description, context, context.faults
        self._region, self._capacity = region, capacity
        count = self._job["ResourceConfig"]["InstanceCount"]
        numbers = range(1, count + 1)
        self._instances = [Instance(context.machines / f"{self.name}-{each}", each, count) for each in numbers]
        self._progress = Progress(record, context)
        self._stop_asked, self._close_asked = threading.Event(), threading.Event()
        self._interruptible = self._job["EnableManagedSpotTraining"]
        self._trained, self._reason = 0.0, ""

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
            for instance in self._instances:
                instance.remove()

    def _live(self) -> None:
        self._progress.enter("Starting", "Launching requested ML instances")
        if not self._capacity:
            advice = "Please retry using a different ML instance type or after some time."
            raise JobFailure(f"CapacityError: Unable to provision requested ML compute capacity. {advice}")
        while (end := self._attempt()) is End.INTERRUPTED:
            self._progress.enter("Interrupted", "Spot capacity was taken back")
            self._progress.enter("Restarting", "Waiting for spot capacity")
        if end is End.CLOSED:
            self._progress.finish(End.FAILED, CLOSED, self._trained)
            return
        reason = self._reason if end is End.FAILED else None
        self._progress.enter("Uploading", "Uploading generated training model")
        began = time.monotonic()
        self._upload(end)
        self._trained += time.monotonic() - began
        self._progress.finish(end, reason, self._trained)

    def _attempt(self) -> End:
        """Runs the job on new instances until it ends or loses one of them."""
        self._progress.enter("Downloading", "Downloading input data")
        for instance in self._instances:
            instance.prepare(self._job, self._context.objects)
        if self._close_asked.is_set() or self._stop_asked.is_set():
            return End.CLOSED if self._close_asked.is_set() else End.STOPPED
        self._progress.enter("Training", "Training image download completed. Training in progress.")
        began = time.monotonic()
        hosts: list[Host] = []
        try:
            for instance in self._instances:
                hosts.append(Host(instance, self._job, self._region, self._context))
            self._progress.begin()
            end = self._follow(hosts, began)
        finally:
            for host in hosts:
                host.close()
            self._trained += time.monotonic() - began
        if end is None:
            end = End.FAILED if any(host.toolkit.exit_code for host in hosts) else End.COMPLETED
        if end is End.FAILED:
            self._reason = _failure(hosts)
        return end

    def _follow(self, hosts: Sequence[Host], began: float) -> End | None:
        """Reads the toolkits' output until no process is left that could write; returns why it was ended, or None."""
        end, kill_at, next_copy = None, math.inf, began + _SYNC_SECONDS
        while any(host.writing for host in hosts):
            lines = [line for host in hosts for line in host.read(_TICK_SECONDS / len(hosts))]
            self._progress.read(lines)
            now = time.monotonic()
            if end is None and (end := self._end_of(hosts, now - began, lines)) is not None:
                kill_at = now + self._end(hosts, end)
                next_copy = now
            copying = now >= next_copy
            next_copy = now + _SYNC_SECONDS if copying else next_copy
            for host in hosts:
                if copying:
                    host.copy_checkpoints()
                # A container ends with its first process, whatever that has left running.
                if now >= kill_at or (end is None and host.toolkit.exit_code is not None):
                    host.kill()
        for host in hosts if end is not End.INTERRUPTED else ():
            host.copy_checkpoints()
        return end

    def _end(self, hosts: Sequence[Host], end: End) -> float:
        """Asks the toolkits to end, and returns the seconds until they are killed."""
        if end in (End.CLOSED, End.INTERRUPTED, End.FAILED):
            return 0.0
        self._progress.enter("Stopping", "Stopping the training job")
        for host in hosts:
            host.toolkit.terminate()
        return self.faults.grace_seconds

    def _end_of(self, hosts: Sequence[Host], seconds: float, lines: Sequence[str]) -> End | None:
        condition, faults = self._job["StoppingCondition"], self.faults
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
        # The others may wait for it.
        return End.FAILED if any(host.toolkit.exit_code for host in hosts) else None

    def _upload(self, end: End) -> None:
        objects, scratch, instances = self._context.objects, self._instances[0].directory, self._instances
        root = f"{self._job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.name}"
        data = [instance.output / "data" for instance in instances]
        upload_archive(data, f"{root}/output/output.tar.gz", objects, scratch)
        if end is not End.FAILED:
            uri = f"{root}/output/model.tar.gz"
            if upload_archive([instance.model for instance in instances], uri, objects, scratch):
                self._progress.note_model(uri)
        if "DebugHookConfig" in self._job:
            root = f"{self._job['DebugHookConfig']['S3OutputPath'].rstrip('/')}/{self.name}/debug-output"
            for instance in instances:
                MirroredDirectory(instance.tensors, root, objects, restored=False).update()


def _failure(hosts: Sequence[Host]) -> str:
    """Returns the reason of the host that failed; those that were killed for it have negative exit codes."""
    failed = max((host for host in hosts if host.toolkit.exit_code), key=lambda host: host.toolkit.exit_code or 0)
    path = failed.instance.output / "failure"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    code = f", exit code: {failed.toolkit.exit_code}"
    return f"AlgorithmError: {text}"[: MAX_REASON - len(code)] + code

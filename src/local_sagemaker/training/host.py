"""One instance of a training job at work: the toolkit on it, its log, and the way of its checkpoints to S3."""

from collections.abc import Mapping
from typing import Any

from local_sagemaker.context import Context
from local_sagemaker.training.artifacts import MirroredDirectory
from local_sagemaker.training.instance import Instance
from local_sagemaker.training.toolkit import Toolkit


class Host:
    """A prepared instance on which the toolkit has been started.

    All hosts of a job copy their checkpoints to the same place in S3, as on AWS: their names must differ.
    """

    def __init__(self, instance: Instance, job: Mapping[str, Any], region: str, context: Context) -> None:
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

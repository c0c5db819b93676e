"""One instance of a training job at work: the toolkit on it, its log, and the way of its checkpoints to S3."""

from __future__ import annotations

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
        environment = instance.environment(job, region, context)
        self._toolkit = Toolkit(context.toolkit, instance.directory, environment)
        self.terminate, self.kill, self.close = self._toolkit.terminate, self._toolkit.kill, self._toolkit.close
        self.writing = True

    @property
    def exit_code(self) -> int | None:
        """That of `train`; None while it runs."""
        return self._toolkit.exit_code

    def read(self, seconds: float) -> list[str]:
        """Returns new lines of output, waiting some seconds for one, and notes when nobody can write any more."""
        lines = self._toolkit.lines(seconds) if self.writing else []
        self.writing = lines is not None and self.writing
        for line in lines or ():
            self._stream.add(line)
        return lines or []

    def copy_checkpoints(self) -> None:
        if self._mirrored is not None:
            self._mirrored.update()

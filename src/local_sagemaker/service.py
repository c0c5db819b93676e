"""The service: S3, IAM, STS, logs, SageMaker and its autoscaling on a port of this machine."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
from filelock import FileLock, Timeout

from local_sagemaker.calls import LocalSageMakerError
from local_sagemaker.client import ADDRESS, CLIENTS, LOCK, PYTHON, ROLE, Client
from local_sagemaker.faults import Faults
from local_sagemaker.training.toolkit import TRAIN, kill_left_over

if TYPE_CHECKING:
    from local_sagemaker.serving.served_variant import MakeContainer

_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "sagemaker.amazonaws.com"}}],
}
# Regions where IAM of the three parts of AWS is asked.
_IAM_REGIONS = ("us-east-1", "cn-north-1", "us-gov-west-1")


class LocalSageMaker(Client):
    """The service and its client: `with LocalSageMaker(directory, Faults()) as local: local.client("sagemaker")`.

    What it knows lasts until the end of the block; jobs and endpoints end with it. A process can have one at a time.
    The disks of jobs are in the directory, which is empty in the end. `container` makes the containers of endpoints,
    by default AWS's serving image's, and `toolkit` is the command in those of training jobs.
    """

    def __init__(
        self, directory: Path, faults: Faults, container: MakeContainer | None = None, toolkit: Sequence[str] = TRAIN
    ) -> None:
        self._directory, self._faults = directory.resolve(), faults
        self._container, self._toolkit = container, toolkit

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def is_idle(self, seconds: float) -> bool:
        """Says whether nothing was asked for so long, while neither a job ran nor a command that may ask again."""
        if time.monotonic() - self._dispatcher.asked < seconds:
            return False
        commands = [int(path.name) for path in (self._directory / CLIENTS).glob("*")]
        running = [thread for thread in threading.enumerate() if isinstance(thread, self._runs)]
        return not running and not any(psutil.pid_exists(process) for process in commands)

    def _open(self, stack: ExitStack) -> None:
        from local_sagemaker.context import Context
        from local_sagemaker.logs import Logs
        from local_sagemaker.records import Records
        from local_sagemaker.s3.moto import Moto
        from local_sagemaker.s3.objects import Objects
        from local_sagemaker.server import Dispatcher, Server
        from local_sagemaker.serving.operations import Serving
        from local_sagemaker.training.operations import TrainingJobs
        from local_sagemaker.training.run import TrainingRun
        from local_sagemaker.tuning.operations import TuningJobs

        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            stack.enter_context(FileLock(self._directory / LOCK, is_singleton=False, thread_local=False, timeout=0))
        except Timeout as error:
            raise LocalSageMakerError(f"Another service uses {self._directory}: choose another directory.") from error
        machines = self._directory / "machines"
        kill_left_over(machines)
        shutil.rmtree(machines, ignore_errors=True)
        for made in (machines, self._directory / CLIENTS):
            stack.callback(shutil.rmtree, made, ignore_errors=True)
        changed = threading.Condition()
        objects = stack.enter_context(closing(Objects()))
        server = Server()
        stack.callback(server.server_close)
        super().__init__(server.url, secrets.token_hex(16))
        logs = Logs(lambda: context.faults)
        jobs = Records("TrainingJob", changed)
        context = Context(jobs, objects, logs, self._faults, self._toolkit, machines, self.url, self.key, changed)
        training = stack.enter_context(closing(TrainingJobs(jobs, context)))
        tunings = Records("HyperParameterTuningJob", changed)
        tuning = stack.enter_context(closing(TuningJobs(tunings, context, training)))
        serving = stack.enter_context(closing(Serving(context, self._container)))
        operations = {
            "sagemaker": {**training.operations, **tuning.operations, **serving.operations},
            "application-autoscaling": serving.scaling,
            "logs": logs.operations,
        }
        self._runs = TrainingRun
        self._dispatcher = Dispatcher(operations, serving.invoke, Moto(), context)
        server.start(self._dispatcher)
        # Closed first, so that nothing is accepted any more.
        stack.callback(server.close)
        for region in _IAM_REGIONS:
            self.client("iam", region).create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(_TRUST))
        stack.callback((self._directory / ADDRESS).unlink, missing_ok=True)
        self._publish()

    def _publish(self) -> None:
        """Lets the person's other processes find the service, and nobody else."""
        written = (self._directory / ADDRESS).with_suffix(".new")
        written.unlink(missing_ok=True)
        written.touch(0o600)
        known = {"url": self.url, "key": self.key, "pid": os.getpid(), "python": PYTHON}
        written.write_text(json.dumps(known), encoding="utf-8")
        written.replace(self._directory / ADDRESS)

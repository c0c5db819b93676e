"""A rehearsal: a service on this machine in place of AWS, while a command runs."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from dogbreeds.errors import UserError
from dogbreeds.sagemaker.rehearsal.checks import ROLE
from dogbreeds.sagemaker.rehearsal.faults import Faults
from dogbreeds.sagemaker.rehearsal.toolkit import TRAIN

if TYPE_CHECKING:
    from boto3 import Session

    from dogbreeds.sagemaker.rehearsal.containers import MakeContainer

#: Default region of clients.
REGION = "us-east-1"
_LOCK = "lock"
# The only way to give all clients of a session an endpoint without environment variables.
_CONFIG = "aws.ini"
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "sagemaker.amazonaws.com"}}
    ],
}


class Rehearsal:
    """S3, IAM, STS, CloudWatch Logs, SageMaker and its autoscaling on a port of this machine.

    A context manager: jobs run until its end; what they made stays in the directory. Endpoints stay in service: their
    containers end with it, and start again when they are asked. A process can have one at a time.

    Args:
        directory: Created if missing; a later rehearsal of the same directory knows everything of this one.
        faults: What goes wrong.
        container: Makes the containers of endpoints; None uses that of AWS's serving image.
        toolkit: The command that runs in a training job's container; by default AWS's training toolkit.
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

    def session(self, region: str = REGION) -> Session:
        import boto3
        from botocore.session import Session

        core = Session(profile="default")
        core.set_config_variable("config_file", str(self._directory / _CONFIG))
        core.set_config_variable("region", region)
        core.set_credentials("rehearsal", "rehearsal")
        return boto3.Session(botocore_session=core)

    def client(self, service: str, config: Any = None) -> Any:
        """Returns a boto3 client, such as `client("sagemaker")`."""
        return self.session().client(service, config=config)

    def _open(self, stack: ExitStack) -> None:
        from dogbreeds.sagemaker.rehearsal.http import Dispatcher, Server
        from dogbreeds.sagemaker.rehearsal.logs import Logs
        from dogbreeds.sagemaker.rehearsal.moto_services import MotoServices
        from dogbreeds.sagemaker.rehearsal.objects import Objects
        from dogbreeds.sagemaker.rehearsal.premises import Context
        from dogbreeds.sagemaker.rehearsal.records import Records
        from dogbreeds.sagemaker.rehearsal.serving import Serving
        from dogbreeds.sagemaker.rehearsal.training_jobs import TrainingJobs
        from dogbreeds.sagemaker.rehearsal.tuning_jobs import TuningJobs

        _refuse_endpoints()
        directory = self._directory
        stack.enter_context(_locked(directory))
        changed = threading.Condition()
        training = Records(directory / "training_jobs", "TrainingJob", changed)
        tuning = Records(directory / "tuning_jobs", "HyperParameterTuningJob", changed)
        objects = stack.enter_context(closing(Objects(directory / "s3")))
        logs = stack.enter_context(closing(Logs(directory / "logs")))
        server = Server()
        stack.callback(server.server_close)
        context = Context(
            training, objects, logs, self._faults, self._toolkit, directory / "machines", server.url, changed
        )
        training_jobs = stack.enter_context(closing(TrainingJobs(context)))
        tuning_jobs = stack.enter_context(closing(TuningJobs(tuning, context, training_jobs)))
        serving = stack.enter_context(closing(Serving(directory, context, self._container)))
        operations = {
            "sagemaker": {
                **training_jobs.operations,
                **tuning_jobs.operations,
                **serving.operations,
            },
            "application-autoscaling": serving.scaling,
            "logs": logs.operations,
        }
        server.start(Dispatcher(operations, serving.invoke, MotoServices(objects), self._faults))
        # Closed first, so that nothing is accepted any more.
        stack.callback(server.close)
        (directory / _CONFIG).write_text(f"[default]\nendpoint_url = {server.url}\n", encoding="utf-8")
        self.client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(_TRUST))


def clear(directory: Path) -> None:
    """Removes the directory of a rehearsal.

    Raises:
        UserError: It is open, or the directory is not one of a rehearsal.
    """
    if not directory.exists():
        return
    if not (directory / _LOCK).exists():
        raise UserError(f"{directory} is not the directory of a rehearsal: nothing was removed.")
    with _locked(directory):
        shutil.rmtree(directory)


def _locked(directory: Path) -> AbstractContextManager[object]:
    directory.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(directory / _LOCK, is_singleton=False, thread_local=False).acquire(blocking=False)
    except Timeout as error:
        raise UserError(
            f"Another rehearsal uses {directory}: wait until it ends, or use another directory."
        ) from error


def _refuse_endpoints() -> None:
    found = [name for name in os.environ if name.startswith("AWS_ENDPOINT_URL")]
    if found:
        raise UserError(
            f"{found[0]} sends requests to {os.environ[found[0]]}, not to the rehearsal: unset {' '.join(found)}"
        )

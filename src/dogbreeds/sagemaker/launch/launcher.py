"""Sends a training run to SageMaker, follows it, and brings home what it made."""

from __future__ import annotations

import importlib.util
import logging
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from dogbreeds.data.layout import find_photos
from dogbreeds.errors import UserError
from dogbreeds.installation import command
from dogbreeds.run_directory import CHECKPOINTS
from dogbreeds.sagemaker.launch.follow import advice, follow
from dogbreeds.sagemaker.protocol.hyperparameters import encode
from dogbreeds.sagemaker.protocol.inputs import PHOTOS, Crossing, outgoing
from dogbreeds.sagemaker.protocol.metrics import metric_definitions
from dogbreeds.sagemaker.protocol.snapshots import Snapshots
from dogbreeds.sagemaker.protocol.task import TRAIN, Task
from dogbreeds.sagemaker.requests.images import training_image
from dogbreeds.sagemaker.requests.job import Job, training_request
from dogbreeds.sagemaker.requests.validation import check_request
from dogbreeds.sagemaker.s3.storage import Storage
from dogbreeds.sagemaker.s3.unpacking import unpack
from dogbreeds.sagemaker.session import Session, message_of
from dogbreeds.schema import DebuggerConfig, SagemakerConfig, TrainConfig

log = logging.getLogger(__name__)

#: Of the names of training jobs and of tuning jobs, by the service.
LONGEST_JOB, LONGEST_TUNING_JOB = 63, 32
_TOKEN = 2
_NOWHERE = "0" * 64


@dataclass(frozen=True)
class Launcher:
    """Sends work to SageMaker.

    Attributes:
        session: The account.
        settings: Where and on what; the region is known.
        project: The checkout whose code the jobs run.
        storage: The place in S3.
    """

    session: Session
    settings: SagemakerConfig
    project: Path
    storage: Storage
    _uploaded: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def of(cls, session: Session, settings: SagemakerConfig, project: Path) -> Launcher:
        """Returns a launcher for an account."""
        storage = Storage(session.s3, session.bucket, settings.prefix, settings.kms_key, Console())
        return cls(session, replace(settings, region=session.region), project, storage)

    def train(self, config: TrainConfig) -> dict[str, Any]:
        """Runs a training job to its end.

        Returns:
            What the service says of it.

        Raises:
            UserError: It cannot be sent; nothing has been begun then.
        """
        config, settings = self._without_smdebug(config), self.settings
        task = Task(TRAIN, settings.checkpoint_seconds)
        extras = ["smdebug"] if config.debugger.smdebug else []
        return self.run(outgoing(config), task, config.debugger, settings.instance, settings.instances, extras)

    def run(
        self,
        crossing: Crossing,
        task: Task,
        debugger: DebuggerConfig,
        instance: str,
        instances: int,
        extras: Sequence[str],
    ) -> dict[str, Any]:
        """Runs a training job of any task to its end.

        Args:
            crossing: What it is told and given.
            task: What it does.
            debugger: What is asked of SageMaker Debugger, if anything.
            instance: The type of its machines.
            instances: How many of them.
            extras: Optional dependencies that it needs.

        Returns:
            What the service says of it.

        Raises:
            UserError: It cannot be sent; nothing has been begun then.
        """
        name = job_name(self.settings.prefix, LONGEST_JOB)

        def request(channels: Mapping[str, str], code: str) -> dict[str, Any]:
            job = self.job(name, crossing, task, channels, code, instance, instances)
            return training_request(job, self.settings, debugger, metric_definitions())

        self.check("CreateTrainingJob", request, list(crossing.channels()))
        self._announce(name, crossing, task, instance, instances)
        code = self.storage.upload_code(self.project, extras)
        self.create("CreateTrainingJob", request(self.upload(crossing), code))
        return self.follow(name)

    def check(
        self, operation: str, request: Callable[[Mapping[str, str], str], dict[str, Any]], channels: Sequence[str]
    ) -> None:
        """Judges a request before anything goes up, with addresses that nothing lies at.

        Raises:
            ConfigError: The service would refuse it; the message names the settings.
        """
        planned = {channel: self.storage.uri(PHOTOS, _NOWHERE) for channel in channels}
        check_request(operation, request(planned, self.storage.uri("code", _NOWHERE, "sourcedir.tar.gz")))

    def job(
        self,
        name: str,
        crossing: Crossing,
        task: Task,
        channels: Mapping[str, str],
        code: str,
        instance: str,
        instances: int,
    ) -> Job:
        """Returns what a job is, as requests are made of it."""
        return Job(
            name=name,
            hyperparameters={**encode(crossing.overrides), **task.encode()},
            channels=channels,
            code=code,
            output=self.storage.uri("jobs"),
            checkpoints=self.storage.uri("jobs", name, "checkpoints"),
            image=training_image(self.settings, instance),
            role=self.session.role,
            instance=instance,
            instances=instances,
        )

    def upload(self, crossing: Crossing) -> dict[str, str]:
        """Brings the files of a run to S3, and returns the channels that have them.

        All jobs of a command get the same, so that a folder is read once.
        """
        for name, path in crossing.channels().items():
            if path not in self._uploaded:
                upload = self.storage.upload_photos if name == PHOTOS else self.storage.upload
                self._uploaded[path] = upload(path)
        return {name: self._uploaded[path] for name, path in crossing.channels().items()}

    def create(self, operation: str, request: Mapping[str, Any]) -> None:
        """Sends a request that has been checked.

        Raises:
            UserError: The service refuses it; what was uploaded stays for the next try.
        """
        from botocore import xform_name
        from botocore.exceptions import ClientError

        check_request(operation, request)
        try:
            getattr(self.session.sagemaker, xform_name(operation))(**request)
        except ClientError as error:
            raise UserError(
                f"AWS refused the job: {message_of(error)}. {advice(message_of(error))}"
                "What was uploaded stays where it is: trying again uploads nothing twice."
            ) from error

    def follow(self, name: str) -> dict[str, Any]:
        """Follows a training job to its end.

        Raises:
            UserError: Ctrl-C; the job goes on.
        """
        with leaving(f"attach={name}", self.session):
            return follow(self.session, name)

    def fetch(self, described: Mapping[str, Any], run_dir: Path) -> None:
        """Brings what a job made into a run directory that looks like one of this machine.

        Raises:
            UserError: The job made nothing, or it cannot be fetched.
        """
        job = f"{described['OutputDataConfig']['S3OutputPath']}/{described['TrainingJobName']}"
        if self.storage.exists(f"{job}/output/output.tar.gz"):
            self.storage.download_archive(f"{job}/output/output.tar.gz", run_dir)
        if self.storage.exists(f"{job}/output/model.tar.gz"):
            self.storage.download(f"{job}/output/model.tar.gz", run_dir / "model.tar.gz")
            unpack(run_dir / "model.tar.gz", run_dir / "model")
        if described.get("ProfilerRuleConfigurations"):
            self.storage.download_folder(f"{job}/rule-output", run_dir / "rule-output")
        followed = described.get("CheckpointConfig", {}).get("S3Uri")
        if followed:
            self._fetch_checkpoints(followed, run_dir)

    def _fetch_checkpoints(self, followed: str, run_dir: Path) -> None:
        """Takes the checkpoints out of the newest snapshot of a job's work, if it has left one."""
        with tempfile.TemporaryDirectory(prefix="dogbreeds-snapshots-") as scratch:
            found = self.storage.download_folder(followed, Path(scratch) / "kept")
            work = Path(scratch) / "work"
            if found and Snapshots(found[0].parent, work).restore() and (work / CHECKPOINTS).is_dir():
                shutil.copytree(work / CHECKPOINTS, run_dir / CHECKPOINTS, dirs_exist_ok=True)

    def _without_smdebug(self, config: TrainConfig) -> TrainConfig:
        """Where jobs install nothing, smdebug is there if this machine has it."""
        needs = config.debugger.smdebug and not self.session.jobs_install
        if not needs or importlib.util.find_spec("smdebug") is not None:
            return config
        log.warning(
            "smdebug is not installed here, and a rehearsal installs nothing: AWS's rules would have no tensors to "
            "read, so that only their system profiling is asked for. Our own rules judge the run as ever."
        )
        return replace(config, debugger=replace(config.debugger, smdebug=False))

    def _announce(self, name: str, crossing: Crossing, task: Task, instance: str, instances: int) -> None:
        settings = self.settings
        channels = crossing.channels()
        photos = sum(len(paths) for paths in find_photos(channels[PHOTOS]).values())
        files = [str(path) for channel, path in channels.items() if channel != PHOTOS]
        machines = f"{instances} x {instance}{' (spot)' if settings.spot else ''}"
        lines = [
            f"job     {name}, {self.session.place}",
            f"does    {task.kind}",
            f"on      {machines}, for {settings.hours:g} hours at most",
            f"image   {training_image(settings, instance)}",
            f"uploads {photos:,} photos of {channels[PHOTOS]}, as far as they are not there"
            + (f"; {', '.join(files)}" if files else ""),
            f"to      {self.session.uri(settings.prefix)}",
        ]
        for line in lines:
            log.info(line)


def unmanaged(config: TrainConfig) -> TrainConfig:
    """Returns a config for a job that SageMaker Debugger has no part in: a trial, features, a whole search."""
    return replace(config, debugger=replace(config.debugger, managed=None, smdebug=False))


@contextmanager
def leaving(again: str, session: Session) -> Iterator[None]:
    """Says how to come back to a job that goes on, when the person leaves it or the connection is lost.

    Args:
        again: What to type for it after the command.
        session: Where it runs.

    Raises:
        UserError: One of the two happened.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except KeyboardInterrupt:
        raise Left(again, goes_on=session.jobs_outlive) from None
    except (BotoCoreError, ClientError) as error:
        raise UserError(
            f"AWS does not answer any more ({message_of(error)}). The job goes on: follow it again with "
            f"{command('launch')} {again}"
        ) from error


class Left(UserError):
    """The person left a job."""

    exit_code = 130

    def __init__(self, again: str, *, goes_on: bool) -> None:
        """Says how to come back.

        Args:
            again: What to type for it after the command.
            goes_on: It does; a rehearsed job ends with the command.
        """
        if goes_on:
            super().__init__(f"\nThe job goes on. Follow it again with: {command('launch')} {again}")
        else:
            super().__init__("\nStopped, and with it the rehearsal: its job ended too.")


def job_name(prefix: str, longest: int) -> str:
    """Returns a new name of a job, cut to what the service takes."""
    tail = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(_TOKEN)}"
    return f"{prefix[: longest - len(tail) - 1].rstrip('-')}-{tail}"

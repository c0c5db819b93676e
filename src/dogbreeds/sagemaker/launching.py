"""Sends a training run to SageMaker, follows it, and brings home what it made."""

from __future__ import annotations

import importlib.util
import json
import logging
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from dogbreeds.data.layout import find_photos
from dogbreeds.errors import UserError
from dogbreeds.sagemaker.checkpoints import Snapshots
from dogbreeds.sagemaker.crossing import FEATURES, PHOTOS, Crossing, outgoing
from dogbreeds.sagemaker.images import training_image
from dogbreeds.sagemaker.jobs import Job
from dogbreeds.sagemaker.metrics import metric_definitions
from dogbreeds.sagemaker.progress import advice, follow
from dogbreeds.sagemaker.session import Session, message_of
from dogbreeds.sagemaker.storage import Storage
from dogbreeds.sagemaker.tasks import TRAIN, Task
from dogbreeds.sagemaker.training_job import training_request
from dogbreeds.sagemaker.transfers import split_uri
from dogbreeds.sagemaker.validation import check_request
from dogbreeds.sagemaker.wire import encode
from dogbreeds.schema import SagemakerConfig, TrainConfig

log = logging.getLogger(__name__)

#: Of the names of training jobs and of tuning jobs, by the service.
LONGEST_JOB, LONGEST_TUNING_JOB = 63, 32
_TOKEN = 2
_NOWHERE = "0" * 64
_CHECKPOINTS = "checkpoints"


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
        config = self._without_smdebug(config)
        crossing, task = outgoing(config), Task(TRAIN, self.settings.checkpoint_seconds)
        name = job_name(self.settings.prefix, LONGEST_JOB)

        def request(channels: Mapping[str, str], code: str) -> dict[str, Any]:
            job = self.job(name, crossing, task, channels, code, self.settings.instance, self.settings.instances)
            return training_request(job, self.settings, config.debugger, metric_definitions())

        self.check("CreateTrainingJob", request, list(crossing.channels()))
        self._announce(name, config, crossing)
        sent = request(self.upload(crossing), self.upload_code(config))
        self.create("CreateTrainingJob", sent)
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
        """Brings the files of a run to S3, and returns the channels that have them."""
        return {
            name: self.storage.upload_photos(path) if name == PHOTOS else self.storage.upload(path)
            for name, path in crossing.channels().items()
        }

    def upload_code(self, config: TrainConfig) -> str:
        """Brings the code to S3."""
        return self.storage.upload_code(self.project, ["smdebug"] if config.debugger.smdebug else [])

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
        output = f"{described['OutputDataConfig']['S3OutputPath']}/{described['TrainingJobName']}/output"
        for archive, place in (("output.tar.gz", run_dir), ("model.tar.gz", run_dir / "model")):
            if self.storage.exists(f"{output}/{archive}"):
                self.storage.download_archive(f"{output}/{archive}", place)
        if self.storage.exists(f"{output}/model.tar.gz"):
            self.storage.download(f"{output}/model.tar.gz", run_dir / "model.tar.gz")
        if described.get("ProfilerRuleConfigurations"):
            made = f"{described['OutputDataConfig']['S3OutputPath']}/{described['TrainingJobName']}/rule-output"
            self.storage.download_folder(made, run_dir / "rule-output")
        followed = described.get("CheckpointConfig", {}).get("S3Uri")
        if followed:
            self._fetch_checkpoints(followed, run_dir)

    def _fetch_checkpoints(self, followed: str, run_dir: Path) -> None:
        """Takes the checkpoints out of the newest snapshot of a job's work, if it has left one."""
        with tempfile.TemporaryDirectory(prefix="dogbreeds-snapshots-") as scratch:
            found = self.storage.download_folder(followed, Path(scratch) / "kept")
            work = Path(scratch) / "work"
            if found and Snapshots(found[0].parent, work).restore() and (work / _CHECKPOINTS).is_dir():
                shutil.copytree(work / _CHECKPOINTS, run_dir / _CHECKPOINTS, dirs_exist_ok=True)

    def read(self, uri: str) -> dict[str, str]:
        """Returns what `write` wrote."""
        bucket, key = split_uri(uri)
        found: dict[str, str] = json.loads(self.session.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        return found

    def write(self, uri: str, content: Mapping[str, str]) -> None:
        """Writes a small object, such as where something else lies."""
        bucket, key = split_uri(uri)
        self.session.s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(content).encode())

    def _without_smdebug(self, config: TrainConfig) -> TrainConfig:
        """A rehearsal installs nothing, so smdebug is there where this machine has it."""
        if not (config.debugger.smdebug and self.session.rehearsal and importlib.util.find_spec("smdebug") is None):
            return config
        log.warning(
            "smdebug is not installed here, and a rehearsal installs nothing: AWS's rules would have no tensors to "
            "read, so that only their system profiling is asked for. Our own rules judge the run as ever."
        )
        return replace(config, debugger=replace(config.debugger, smdebug=False))

    def _announce(self, name: str, config: TrainConfig, crossing: Crossing) -> None:
        settings = self.settings
        machines = f"{settings.instances} x {settings.instance}{' (spot)' if settings.spot else ''}"
        photos = sum(len(paths) for paths in find_photos(Path(config.data.dir)).values())
        files = [str(path) for channel, path in crossing.channels().items() if channel not in (PHOTOS, FEATURES)]
        lines = [
            f"job     {name}{', a rehearsal on this machine' if self.session.rehearsal else ''}",
            f"on      {machines}, for {settings.hours:g} hours at most",
            f"image   {training_image(settings, settings.instance)}",
            f"uploads {photos:,} photos of {config.data.dir}, as far as they are not there"
            + (f"; {', '.join(files)}" if files else ""),
            f"to      {self.session.uri(settings.prefix)}",
        ]
        for line in lines:
            log.info(line)


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
        raise Left(again, session.rehearsal) from None
    except (BotoCoreError, ClientError) as error:
        raise UserError(
            f"AWS does not answer any more ({message_of(error)}). The job goes on: follow it again with "
            f"python launch_sagemaker.py {again}"
        ) from error


class Left(UserError):
    """The person left a job that goes on."""

    exit_code = 130

    def __init__(self, again: str, rehearsal: bool) -> None:
        """Says how to come back.

        Args:
            again: What to type for it after the command.
            rehearsal: The job is one on this machine, and ends with the command.
        """
        if rehearsal:
            super().__init__("\nStopped, and with it the rehearsal: its job ended too.")
        else:
            super().__init__(f"\nThe job goes on. Follow it again with: python launch_sagemaker.py {again}")


def job_name(prefix: str, longest: int) -> str:
    """Returns a new name of a job, cut to what the service takes."""
    tail = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(_TOKEN)}"
    return f"{prefix[: longest - len(tail) - 1].rstrip('-')}-{tail}"

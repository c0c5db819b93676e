"""Sends a training run to SageMaker, follows it, and fetches its results."""

from __future__ import annotations

import importlib.util
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from botocore import xform_name
from rich.console import Console

from dogbreeds.data.archives import unpack
from dogbreeds.data.layout import find_photos
from dogbreeds.sagemaker.aws_errors import aws_errors
from dogbreeds.sagemaker.launch.follow import follow
from dogbreeds.sagemaker.protocol.hyperparameters import encode
from dogbreeds.sagemaker.protocol.inputs import PHOTOS, JobInputs, job_inputs
from dogbreeds.sagemaker.protocol.metrics import metric_definitions
from dogbreeds.sagemaker.protocol.task import TRAIN, Task
from dogbreeds.sagemaker.requests.images import training_image
from dogbreeds.sagemaker.requests.job import Job, training_request
from dogbreeds.sagemaker.requests.validation import check_request
from dogbreeds.sagemaker.s3.storage import Storage
from dogbreeds.sagemaker.s3.transfers import split_uri
from dogbreeds.sagemaker.session import Account
from dogbreeds.schema import DebuggerConfig, SagemakerConfig, TrainConfig

log = logging.getLogger(__name__)

#: Longest names of training jobs and of tuning jobs (CreateTrainingJob, CreateHyperParameterTuningJob).
MAX_JOB_NAME, MAX_TUNING_JOB_NAME = 63, 32
# Stands in URIs for the digest of files that have not been uploaded yet.
_PLACEHOLDER_DIGEST = "0" * 64


@dataclass(frozen=True)
class JobPlan:
    """One job, before its files are in S3.

    Attributes:
        name: Its name, or that of the tuning job.
        debugger: What it asks of SageMaker Debugger.
        extras: Optional dependencies that it installs beside those of its inputs.
    """

    name: str
    inputs: JobInputs
    task: Task
    debugger: DebuggerConfig
    instance: str
    instances: int = 1
    extras: Sequence[str] = ()
    checkpoints: bool = True


@dataclass(frozen=True)
class Launcher:
    """Sends work to SageMaker.

    Attributes:
        settings: Those of the account, with the region.
        project: The checkout whose code the jobs run.
        storage: The jobs' place in S3.
    """

    account: Account
    settings: SagemakerConfig
    project: Path
    storage: Storage
    # URIs of what this command has uploaded, by path: several jobs may get the same folder.
    _uploaded: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def of(cls, account: Account, project: Path) -> Launcher:
        settings = replace(account.settings, region=account.region)
        storage = Storage(account.s3, account.bucket, settings.prefix, settings.kms_key, Console())
        return cls(account, settings, project, storage)

    def train(self, config: TrainConfig) -> dict[str, Any]:
        """Runs a training job to its end, and returns AWS's description of it."""
        config, settings = self._without_smdebug(config), self.settings
        extras = [name for name in ("mlflow", "wandb") if config.logger.get(name) is not None]
        plan = JobPlan(
            name=self.new_name(),
            inputs=job_inputs(config),
            task=Task(TRAIN, settings.checkpoint_seconds),
            debugger=config.debugger,
            instance=settings.instance,
            instances=settings.instances,
            extras=[*extras, "smdebug"] if config.debugger.smdebug else extras,
        )
        return self.run(plan)

    def new_name(self) -> str:
        return job_name(self.settings.prefix, MAX_JOB_NAME)

    def run(self, plan: JobPlan) -> dict[str, Any]:
        """Runs a training job of any task to its end, and returns AWS's description of it."""

        def request(channels: Mapping[str, str], code: str) -> dict[str, Any]:
            job = self.job(plan, channels, code)
            return training_request(job, self.settings, plan.debugger, metric_definitions())

        self.check("CreateTrainingJob", request, list(plan.inputs.channels()))
        self._announce(plan)
        code = self.storage.upload_code(self.project, [*plan.inputs.extras, *plan.extras])
        self.create("CreateTrainingJob", request(self.upload(plan.inputs), code))
        return follow(self.account, plan.name)

    def check(
        self, operation: str, request: Callable[[Mapping[str, str], str], dict[str, Any]], channels: Sequence[str]
    ) -> None:
        """Checks a request before anything is uploaded."""
        planned = {channel: self.storage.uri(PHOTOS, _PLACEHOLDER_DIGEST) for channel in channels}
        check_request(operation, request(planned, self.storage.uri("code", _PLACEHOLDER_DIGEST, "sourcedir.tar.gz")))

    def job(self, plan: JobPlan, channels: Mapping[str, str], code: str) -> Job:
        """Returns a job whose files are in S3, from which requests are made."""
        return Job(
            name=plan.name,
            hyperparameters={**encode(plan.inputs.overrides), **plan.task.encode()},
            channels=channels,
            code=code,
            output=self.storage.uri("jobs"),
            checkpoints=self.storage.uri("checkpoints", plan.name) if plan.checkpoints else None,
            image=training_image(self.settings, plan.instance),
            role=self.account.role,
            instance=plan.instance,
            instances=plan.instances,
        )

    def upload(self, inputs: JobInputs) -> dict[str, str]:
        """Uploads the files of a run, and returns their URIs by channel."""
        for name, path in inputs.channels().items():
            if path not in self._uploaded:
                upload = self.storage.upload_photos if name == PHOTOS else self.storage.upload
                self._uploaded[path] = upload(path)
        return {name: self._uploaded[path] for name, path in inputs.channels().items()}

    def create(self, operation: str, request: Mapping[str, Any]) -> None:
        with aws_errors("start the job"):
            getattr(self.account.sagemaker, xform_name(operation))(**request)

    def _without_smdebug(self, config: TrainConfig) -> TrainConfig:
        """A rehearsal installs nothing: it has smdebug only where this machine has it."""
        wanted = config.debugger.smdebug and self.settings.rehearsal
        if not wanted or importlib.util.find_spec("smdebug") is not None:
            return config
        log.warning(
            "smdebug is not installed here, and a rehearsal installs nothing: AWS's rules get no tensors, only "
            "system profiling. Our own rules check the run as always."
        )
        return replace(config, debugger=replace(config.debugger, smdebug=False))

    def _announce(self, plan: JobPlan) -> None:
        settings, channels = self.settings, plan.inputs.channels()
        photos = len(find_photos(channels[PHOTOS]).photos())
        files = "".join(f"; {path}" for channel, path in channels.items() if channel != PHOTOS)
        spot = " (Spot)" if settings.spot else ""
        for line in (
            f"job     {plan.name}, {self.account.where}",
            f"does    {plan.task.kind}",
            f"on      {plan.instances} x {plan.instance}{spot}, for at most {settings.hours:g} hours",
            f"image   {training_image(settings, plan.instance)}",
            f"uploads {photos:,} photos from {channels[PHOTOS]} (those already in S3 are skipped){files}",
            f"to      {self.storage.uri()}",
        ):
            log.info(line)


def fetch(account: Account, described: Mapping[str, Any], run_dir: Path) -> None:
    """Brings what a job has made into a run directory; nothing where it has made nothing.

    Args:
        account: The account.
        described: AWS's description of the job.
        run_dir: Becomes what the run would have left on this machine.
    """
    settings, output = account.settings, described["OutputDataConfig"]["S3OutputPath"]
    storage = Storage(account.s3, split_uri(output)[0], settings.prefix, settings.kms_key, Console())
    job = f"{output}/{described['TrainingJobName']}"
    if storage.exists(f"{job}/output/output.tar.gz"):
        storage.download_archive(f"{job}/output/output.tar.gz", run_dir)
    if storage.exists(f"{job}/output/model.tar.gz"):
        storage.download(f"{job}/output/model.tar.gz", run_dir / "model.tar.gz")
        unpack(run_dir / "model.tar.gz", run_dir / "model")
    if described.get("ProfilerRuleConfigurations"):
        storage.download_folder(f"{job}/rule-output", run_dir / "rule-output")


def without_managed_debugger(config: TrainConfig) -> TrainConfig:
    """Returns a config for a job without SageMaker Debugger: a trial, features, a whole search."""
    return replace(config, debugger=replace(config.debugger, managed=None, smdebug=False))


def job_name(prefix: str, longest: int) -> str:
    """Returns a new name for a job, an endpoint configuration or a model, at most `longest` characters."""
    tail = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return f"{prefix[: longest - len(tail) - 1].rstrip('-')}-{tail}"

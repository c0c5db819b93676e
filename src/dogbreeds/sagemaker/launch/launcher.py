"""Sends a training run to SageMaker."""

import hashlib
import importlib.util
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

from botocore import xform_name
from rich.console import Console

from dogbreeds.data.labels import find
from dogbreeds.errors import ConfigError, UserError, on_interrupt
from dogbreeds.files import lines_beside
from dogbreeds.sagemaker.aws_errors import aws_errors, code_of, passes
from dogbreeds.sagemaker.launch.begun import beginning, begun_by, finished, remember, remember_config
from dogbreeds.sagemaker.launch.job_handle import TRAINING, JobHandle
from dogbreeds.sagemaker.protocol.hyperparameters import TRAIN, Task, encode
from dogbreeds.sagemaker.protocol.inputs import LABELS, PHOTOS, JobInputs, job_inputs
from dogbreeds.sagemaker.requests.images import training_image
from dogbreeds.sagemaker.requests.job import Job, training_request
from dogbreeds.sagemaker.requests.validation import check_request
from dogbreeds.sagemaker.s3.storage import Storage
from dogbreeds.sagemaker.session import Account
from dogbreeds.schema import DebuggerConfig, SagemakerConfig, TrainConfig
from local_sagemaker.rules.instances import gpus

log = logging.getLogger(__name__)

#: Longest name of a training job (CreateTrainingJob).
MAX_JOB_NAME = 63
# Stands in URIs for the digest of files that have not been uploaded yet.
_PLACEHOLDER_DIGEST = "0" * 64
#: Gets the name of a job before AWS does.
Note = Callable[[str], None]
#: Makes a request of URIs by channel, and that of the code.
RequestOf = Callable[[Mapping[str, str], str], dict[str, Any]]


class RefusedError(UserError):
    """AWS does not take a job."""


@dataclass(frozen=True)
class JobPlan:
    """One job, or the trials of a tuning job, before files are in S3; `extras` are added to those of its inputs."""

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
    """Sends work to SageMaker; `settings` have the region of the account, and jobs run the code of `project`."""

    account: Account
    settings: SagemakerConfig
    project: Path
    # URIs of what this command has uploaded, by path: several jobs may get the same folder.
    _uploaded: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def of(cls, account: Account, project: Path) -> Self:
        return cls(account, replace(account.settings, region=account.region), project)

    @cached_property
    def storage(self) -> Storage:
        account, settings = self.account, self.settings
        return Storage(lambda: account.s3, account.bucket, settings.prefix, settings.kms_key, Console())

    def train(self, config: TrainConfig) -> JobHandle:
        config, settings = self._without_smdebug(config), self.settings
        extras = [name for name in ("mlflow", "wandb") if config.logger.get(name) is not None]
        extras += ["smdebug"] if config.debugger.smdebug else []
        inputs, task = job_inputs(config), Task(TRAIN, settings.checkpoint_seconds)
        on = settings.instance, settings.instances
        plan = JobPlan(self.new_name(), inputs, task, config.debugger, *on, extras)
        return self.begin_job(plan, Path(config.run_dir), partial(remember_config, config=config))

    def new_name(self) -> str:
        return job_name(self.settings.prefix, MAX_JOB_NAME)

    def run(self, plan: JobPlan, note: Note) -> dict[str, Any]:
        """Runs a training job of any task to its end, and returns AWS's description of it."""
        job = self.begin_job(plan, None, note)
        described = job.wait()
        finished(job.name)
        return described

    def begin_job(self, plan: JobPlan, directory: Path | None, note: Note) -> JobHandle:
        """Begins a training job of any task, whose results belong in a directory, if anywhere; see `begin`."""

        def request(channels: Mapping[str, str], code: str) -> dict[str, Any]:
            return training_request(self.job(plan, channels, code), self.settings, plan.debugger)

        self.check(TRAINING, request, list(plan.inputs.channels()))
        self._announce(plan)
        code = self.storage.upload_code(self.project, [*plan.inputs.extras, *plan.extras])
        return self.begin(TRAINING, request(self.upload(plan.inputs), code), directory, note)

    def begin(self, kind: str, request: Mapping[str, Any], directory: Path | None, note: Note) -> JobHandle:
        """Creates a job, or takes up the one that the same request began on this machine, if it goes on or is done.

        Its name is written down first, so that whatever happens then, this command or `attach=` finds it again.

        Raises:
            RefusedError: AWS does not take the job.
        """
        name, text = request[f"{kind}Name"], json.dumps(request, sort_keys=True)
        place = self.settings.rehearsal_dir if self.settings.rehearsal else ""
        digest = hashlib.sha256(f"{place}{text.replace(name, '')}".encode()).hexdigest()
        with beginning():
            job = JobHandle(self.account, begun_by(digest) or name, kind)
            status = job.status() if job.name != name and job.exists() else None
            if status in ("Failed", "Stopping", "Stopped"):
                job, status = JobHandle(self.account, name, kind), None
            again = "The same command goes on with it, or begins it where it has not begun."
            with on_interrupt(f"Stopped while {job.name} was begun. {again}"):
                remember(job.name, digest, directory)
                note(job.name)
                if status is None:
                    self._create(job, json.loads(text.replace(name, job.name)))
        if status is not None:
            log.info("%s was begun by the same command: this follows it. Stop it with: %s", job.name, job.hint("stop"))
        return job

    def check(self, kind: str, request: RequestOf, channels: Sequence[str]) -> None:
        """Checks the request of a job before anything is uploaded."""
        planned = {channel: self.storage.uri(PHOTOS, _PLACEHOLDER_DIGEST) for channel in channels}
        code = self.storage.uri("code", _PLACEHOLDER_DIGEST, "sourcedir.tar.gz")
        check_request(f"Create{kind}", request(planned, code))

    def job(self, plan: JobPlan, channels: Mapping[str, str], code: str) -> Job:
        """Returns a job whose files are in S3, from which requests are made."""
        if "int8" in plan.inputs.extras and gpus(plan.instance):
            said = f"features.precision=int8 does not run on the GPU of {plan.instance}: name an instance"
            raise ConfigError(f"{said} without one (sagemaker.instance=ml.c5.xlarge), or use features.precision=bf16.")
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
        storage, labels = self.storage, inputs.files.get(LABELS)
        for name, path in inputs.channels().items():
            if path not in self._uploaded:
                self._uploaded[path] = storage.upload_photos(path, labels) if name == PHOTOS else storage.upload(path)
        return {name: self._uploaded[path] for name, path in inputs.channels().items()}

    def _create(self, job: JobHandle, request: Mapping[str, Any]) -> None:
        try:
            with aws_errors("start the job"):
                getattr(self.account.sagemaker, xform_name(f"Create{job.kind}"))(**request)
        except UserError as error:
            cause = error.__cause__
            # The answer to an earlier call was lost: nobody else has that name.
            if code_of(cause) == "ResourceInUse":
                return
            if passes(cause):
                raise UserError(f"{error} The job may have begun all the same: {job.hint('attach')}") from cause
            finished(job.name)
            raise RefusedError(str(error)) from cause

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
        channels, image = plan.inputs.channels(), training_image(self.settings, plan.instance)
        photos, others = channels.pop(PHOTOS), channels.values()
        count = len(find(photos, plan.inputs.files.get(LABELS)).photos())
        found = {"plan": plan, "image": image, "photos": photos, "others": others, "count": count}
        for line in lines_beside(__file__, "announced.txt", launcher=self, **found):
            log.info(line)


def job_name(prefix: str, longest: int) -> str:
    """Returns a new name for a job, an endpoint configuration or a model, at most `longest` characters."""
    tail = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return f"{prefix[: longest - len(tail) - 1].rstrip('-')}-{tail}"

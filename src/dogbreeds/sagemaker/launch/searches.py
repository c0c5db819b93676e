"""What searches in one job and tuning jobs share: a multirun directory that knows its job."""

import json
from collections.abc import Callable
from pathlib import Path

from dogbreeds.errors import ConfigError
from dogbreeds.files import write_text
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.resuming import save_plan
from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.run_directory import SEARCH_CONFIG, TUNING_JOB
from dogbreeds.sagemaker.launch.begun import finished
from dogbreeds.sagemaker.launch.job_handle import TRAINING, TUNING, JobHandle
from dogbreeds.sagemaker.launch.launcher import Note, RefusedError
from dogbreeds.sagemaker.session import Account


def job_of(account: Account, plan: Plan, directory: Path) -> JobHandle | None:
    """Returns the job that a multirun directory belongs to; None where AWS knows none that has results to come.

    Raises:
        ConfigError: It belongs to a search on this machine, or to a job of fewer trials.
    """
    named = directory / TUNING_JOB
    if not named.is_file():
        if (directory / SEARCH_CONFIG).is_file():
            again = f"{command('train')} -m {override('resume', directory)}"
            raise ConfigError(f"{directory} is a search on this machine: {again}")
        return None
    content = json.loads(named.read_text(encoding="utf-8"))
    job = JobHandle(account, str(content["tuning_job"]), TRAINING if plan.settings.one_job else TUNING)
    described = job.describe() if job.exists() else {}
    status, counters = described.get(f"{job.kind}Status"), described.get("TrainingJobStatusCounters")
    nothing = status == "Completed" and counters is not None and not counters.get("Completed")
    if status in (None, "Failed", "Stopped") or nothing:
        finished(job.name)
        return None
    if content["trials"] != plan.settings.trials:
        learning = "." if plan.settings.one_job else f" that learns from them: hpo.warm_start=[{job.name}]."
        said = f"{job.name} has {content['trials']} trials, and a job cannot get more."
        raise ConfigError(f"{said} Start another one{learning}")
    return job


def begun(plan: Plan, directory: Path, begin: Callable[[Note], JobHandle]) -> JobHandle:
    """Begins the job of a search; the multirun directory says what it is before AWS hears of it."""

    def note(name: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        write_text(directory / TUNING_JOB, json.dumps({"tuning_job": name, "trials": plan.settings.trials}) + "\n")
        save_plan(plan, directory)

    try:
        return begin(note)
    except RefusedError:
        for name in (TUNING_JOB, SEARCH_CONFIG):
            (directory / name).unlink(missing_ok=True)
        raise

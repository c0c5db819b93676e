"""Searches as jobs: a multirun directory that knows its job, and a whole search inside one training job.

The latter, hpo.one_job=true, is for trials that are shorter than an instance's start.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from dogbreeds.config import read_yaml, write_yaml
from dogbreeds.directories import refuse_search
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.files import read_json, reading, write_text
from dogbreeds.hpo.leaderboard import FINISHED, Entry, remember, save_best
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.resuming import save_plan
from dogbreeds.hpo.settings import Objective
from dogbreeds.overrides import name_of, sets
from dogbreeds.run_directory import BEST, MODEL, MODEL_ARCHIVE, SEARCH_CONFIG, TUNING_JOB
from dogbreeds.sagemaker.aws_errors import MissingError
from dogbreeds.sagemaker.launch.begun import finished
from dogbreeds.sagemaker.launch.job_handle import TRAINING, TUNING, JobHandle, results_of, summary
from dogbreeds.sagemaker.launch.launcher import JobPlan, Launcher, Note, RefusedError
from dogbreeds.sagemaker.protocol.hyperparameters import SEARCH, Task
from dogbreeds.sagemaker.protocol.inputs import JobInputs, job_inputs
from dogbreeds.sagemaker.s3.storage import Storage
from dogbreeds.sagemaker.session import Account
from dogbreeds.schema import TrainConfig

# What `attach=` on another machine reads, among the results.
_IN_BUCKET = "search.json"
# Says where a search is launched from, not what it is.
_NOT_SENT = ("sagemaker", "hydra", "cache", "run_dir", "paths", "hpo.one_job")


def job_of(account: Account, plan: Plan, directory: Path) -> JobHandle | None:
    """Returns the job that a multirun directory belongs to; None where AWS knows none that has results to come.

    Raises:
        ConfigError: It belongs to a search on this machine, or to a job of fewer trials.
    """
    named = directory / TUNING_JOB
    if not named.is_file():
        refuse_search(directory)
        return None
    with reading(named):
        content = read_json(named)
        name, trials = str(content["tuning_job"]), content["trials"]
    job = JobHandle(account, name, TRAINING if plan.settings.one_job else TUNING)
    described = job.describe() if job.exists() else {}
    status, counters = described.get(f"{job.kind}Status"), described.get("TrainingJobStatusCounters")
    nothing = status == "Completed" and counters is not None and not counters.get("Completed")
    if status in (None, "Failed", "Stopped") or nothing:
        finished(job.name)
        return None
    if trials != plan.settings.trials:
        learning = "." if plan.settings.one_job else f" that learns from them: hpo.warm_start=[{job.name}]."
        said = f"{job.name} has {trials} trials, and a job cannot get more."
        raise ConfigError(f"{said} Start another one{learning}")
    return job


def begun(plan: Plan, directory: Path, storage: Storage, begin: Callable[[Note], JobHandle]) -> JobHandle:
    """Begins the job of a search; multirun directory and bucket say what it is before AWS hears of it."""

    def note(name: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        write_text(directory / TUNING_JOB, json.dumps({"tuning_job": name, "trials": plan.settings.trials}) + "\n")
        save_plan(plan, directory)
        storage.write_json(storage.uri("jobs", name, _IN_BUCKET), read_yaml(directory / SEARCH_CONFIG))

    try:
        return begin(note)
    except RefusedError:
        for name in (TUNING_JOB, SEARCH_CONFIG):
            (directory / name).unlink(missing_ok=True)
        raise


def bring(job: JobHandle, directory: Path) -> None:
    """Describes a search that another machine began in a multirun directory, from which it is followed."""
    output, storage = results_of(job.account, job.describe())
    try:
        found = storage.read_json(f"{output}/{job.name}/{_IN_BUCKET}")
    except MissingError as error:
        said = f"attach={job.name}: this search was begun elsewhere, and {output} does not describe it."
        again = job.account.command("launch", "-m", "resume=<multirun directory>")
        raise ConfigError(f"{said} Follow it there: {again}. Or stop it: {job.hint('stop')}") from error
    write_text(directory / TUNING_JOB, json.dumps({"tuning_job": job.name, "trials": found["trials"]}) + "\n")
    write_yaml(directory / SEARCH_CONFIG, found)


def refuse_managed_debugger(config: TrainConfig) -> None:
    """Refuses AWS's Debugger for a search: it watches single runs, and tuning jobs have no member for it."""
    if config.debugger.managed is not None or config.debugger.smdebug:
        typed = "debugger=smdebug" if config.debugger.managed is None else "debugger=aws"
        raise ConfigError(f"{typed} watches a single run. Leave it out here, and type it with best_of=.")


def search_in_one_job(launcher: Launcher, plan: Plan, directory: Path, job: JobHandle | None = None) -> str:
    """Runs a search inside one training job, or follows `job` or the one that a multirun directory belongs to.

    Fetches its files, and describes the best trial.
    """
    job = job or job_of(launcher.account, plan, directory)
    if job is None:
        plan.keep_files(directory)
        asked = _job_plan(launcher, plan, directory)
        job = begun(plan, directory, launcher.storage, lambda note: launcher.begin_job(asked, directory, note))
    described = job.wait()
    job.fetch(described, directory)
    # The job's own does not know this machine.
    save_plan(plan, directory)
    if not (directory / BEST).is_file():
        finished(job.name)
        raise UserError("\n".join(summary(described)))
    headline = _results(job, plan, directory)
    finished(job.name)
    return headline


def _job_plan(launcher: Launcher, plan: Plan, directory: Path) -> JobPlan:
    settings, config = launcher.settings, plan.first(directory)
    if "data" in plan.space.dimensions:
        raise ConfigError("data=...: a job gets the photos of one folder. Search each folder by its own command.")
    if settings.instances > 1:
        said = "a search in one job runs one trial at a time. Leave it out."
        raise ConfigError(f"sagemaker.instances={settings.instances}: {said}")
    refuse_managed_debugger(config)
    # Refuses to vary files; varied settings travel in the command line.
    inputs = job_inputs(config, plan.corners, list(plan.space.dimensions))
    arguments = tuple(one for one in plan.arguments if _is_sent(one, inputs))
    task = Task(SEARCH, settings.checkpoint_seconds, arguments)
    return JobPlan(launcher.new_name(), inputs, task, config.debugger, settings.instance, extras=["search"])


def _results(job: JobHandle, plan: Plan, directory: Path) -> str:
    """Makes of the files of the job those that a search on this machine leaves."""
    best = read_yaml(directory / BEST)
    for made in (MODEL, MODEL_ARCHIVE):
        if (directory / made).exists():
            place = directory / str(best["trial"]) / made
            # Of an earlier fetch.
            shutil.rmtree(place, ignore_errors=True)
            shutil.move(directory / made, place)
    entry = Entry(best["trial"], FINISHED, best["values"], best["value"])
    save_best(directory / BEST, entry, Objective(best["objective"]), plan.overrides(best["values"]))
    remember(job.name, directory / BEST)
    values = " ".join(f"{setting}={value}" for setting, value in best["values"].items())
    return f"best: trial {best['trial']} with {best['objective']} {best['value']:.4f}, {values}"


def _is_sent(argument: str, inputs: JobInputs) -> bool:
    return name_of(argument) not in (*inputs.files, "data") and not sets(argument, *_NOT_SENT)

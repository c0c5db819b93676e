"""The actions of launch_sagemaker.py: train, search, attach to a job, stop one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dogbreeds.config import load_saved, save
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.hpo.plan import Plan
from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.report.build import build_report
from dogbreeds.run_directory import EXCLUDED, LEADERBOARD, METRICS, RUN_CONFIG
from dogbreeds.sagemaker.aws_errors import aws_errors
from dogbreeds.sagemaker.launch.follow import describe, follow, is_tuning_job, summary
from dogbreeds.sagemaker.launch.launcher import Launcher, fetch
from dogbreeds.sagemaker.launch.one_job import search_in_one_job
from dogbreeds.sagemaker.launch.tuning import tune
from dogbreeds.sagemaker.session import Account, connected
from dogbreeds.schema import SagemakerConfig, TrainConfig

# The checkout that this package lies in: jobs run its code.
_PROJECT = Path(__file__).resolve().parents[3]


def train(settings: SagemakerConfig, config: TrainConfig) -> str:
    """Trains in a job, and returns what to print at its end."""
    if config.resume is not None:
        raise ConfigError(
            f"resume continues a run on this machine: {command('train')} {override('resume', config.resume)}. A job "
            "that loses its Spot instance resumes by itself (sagemaker.spot)."
        )
    with connected(settings) as account:
        described = Launcher.of(account, _PROJECT).train(config)
        return _fetched(account, described, config)


def search(settings: SagemakerConfig, plan: Plan, directory: Path) -> str:
    """Searches in a tuning job, and returns what to print at its end."""
    with connected(settings) as account:
        launcher = Launcher.of(account, _PROJECT)
        if plan.settings.one_job:
            headline = search_in_one_job(launcher, plan, directory)
        else:
            headline = tune(launcher, plan, directory).headline()
        again = account.command("launch", override("best_of", directory))
    lines = [f"trials {directory / LEADERBOARD}", f"charts {directory / 'search.html'}", f"again  {again}"]
    return "\n".join(["", headline, *lines])


def attach(settings: SagemakerConfig, job: str, here: TrainConfig) -> str:
    """Follows an existing training job; returns what to print at its end. `here` has the paths of this machine."""
    with connected(settings) as account:
        return _fetched(account, follow(account, job), here)


def stop(settings: SagemakerConfig, job: str) -> str:
    """Stops a training job or a tuning job, and returns what to print."""
    with connected(settings) as account:
        if is_tuning_job(account, job):
            with aws_errors(f"stop {job}"):
                account.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=job)
            return f"Stopping {job}; the results of its trials so far are kept."
        described = describe(account, job)
        if described["TrainingJobStatus"] != "InProgress":
            return "\n".join(summary(described))
        with aws_errors(f"stop {job}"):
            account.sagemaker.stop_training_job(TrainingJobName=job)
    return f"Stopping {job}; its results so far are kept."


def _fetched(account: Account, described: Mapping[str, Any], here: TrainConfig) -> str:
    """Fetches a job's files and its report, and returns what to print."""
    run_dir = Path(here.run_dir)
    fetch(account, described, run_dir)
    _relocate(here)
    lines = summary(described)
    if (run_dir / RUN_CONFIG).is_file():
        lines.append(f"report {build_report(run_dir)}")
    lines.append(f"run    {run_dir}")
    if not (run_dir / METRICS).is_file():
        raise UserError("\n".join(lines))
    return "\n".join(lines)


def _relocate(config: TrainConfig) -> None:
    """Replaces the paths of the job in the config of a fetched run by those of this machine."""
    path = Path(config.run_dir) / RUN_CONFIG
    if not path.is_file():
        return
    fetched = load_saved(path)
    # What the run left out is named in its own directory too.
    exclude = None if fetched.data.exclude is None else str(path.parent / EXCLUDED)
    save(
        replace(
            fetched,
            run_dir=config.run_dir,
            data=replace(fetched.data, dir=config.data.dir, exclude=exclude),
            cache=config.cache,
            model=replace(fetched.model, weights=config.model.weights),
        ),
        path,
    )

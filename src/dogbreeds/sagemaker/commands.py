"""What launch_sagemaker.py does: train, search, follow a job again, stop one."""

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
from dogbreeds.run_directory import LEADERBOARD, METRICS, RUN_CONFIG
from dogbreeds.sagemaker.launch.follow import describe, is_tuning_job, summary
from dogbreeds.sagemaker.launch.launcher import Launcher
from dogbreeds.sagemaker.launch.one_job import search_in_one_job
from dogbreeds.sagemaker.launch.tuning import tune
from dogbreeds.sagemaker.session import message_of, opened
from dogbreeds.schema import SagemakerConfig, TrainConfig

# The checkout that this package lies in: jobs run its code.
_PROJECT = Path(__file__).resolve().parents[3]


def train(settings: SagemakerConfig, config: TrainConfig) -> str:
    """Trains in a job, and returns what to print at its end.

    Raises:
        UserError: The job cannot be sent, or it did not come to its end.
    """
    if config.resume is not None:
        raise ConfigError(
            f"resume continues a run on this machine: {command('train')} {override('resume', config.resume)}. A job "
            "that was interrupted goes on by itself (sagemaker.spot)."
        )
    with opened(settings) as session:
        launcher = Launcher.of(session, settings, _PROJECT)
        return _brought_home(launcher, launcher.train(config), config)


def search(settings: SagemakerConfig, plan: Plan, directory: Path) -> str:
    """Searches in a tuning job, and returns what to print at its end.

    Raises:
        UserError: It cannot be sent, or no trial came to an end.
    """
    with opened(settings) as session:
        launcher = Launcher.of(session, settings, _PROJECT)
        if plan.settings.one_job:
            found = search_in_one_job(launcher, plan, directory)
        else:
            found = tune(launcher, plan, directory).headline()
    return "\n".join(
        [
            "",
            found,
            f"trials {directory / LEADERBOARD}",
            f"charts {directory / 'search.html'}",
            f"again  {command('launch')} {override('best_of', directory)}",
        ]
    )


def attach(settings: SagemakerConfig, job: str, here: TrainConfig) -> str:
    """Follows a training job that is there already, and returns what to print at its end.

    Args:
        settings: Where it is.
        job: Its name.
        here: What is typed now: where photos and features are on this machine, and where the run is written.

    Raises:
        UserError: There is no such job, or it did not come to its end.
    """
    with opened(settings) as session:
        launcher = Launcher.of(session, settings, _PROJECT)
        return _brought_home(launcher, launcher.follow(job), here)


def stop(settings: SagemakerConfig, job: str) -> str:
    """Stops a training job or a tuning job, and returns what to print.

    Raises:
        UserError: There is no such job, or it has ended already.
    """
    from botocore.exceptions import ClientError

    with opened(settings) as session:
        if is_tuning_job(session, job):
            session.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=job)
            return f"{job} is being stopped; what its trials made so far is kept."
        described = describe(session, job)
        if described["TrainingJobStatus"] != "InProgress":
            return "\n".join(summary(described))
        try:
            session.sagemaker.stop_training_job(TrainingJobName=job)
        except ClientError as error:
            raise UserError(f"{job} cannot be stopped ({message_of(error)}).") from error
    return f"{job} is being stopped; what it made so far is kept."


def _brought_home(launcher: Launcher, described: Mapping[str, Any], here: TrainConfig) -> str:
    run_dir = Path(here.run_dir)
    launcher.fetch(described, run_dir)
    _relocate(here)
    return _ended(described, run_dir)


def _relocate(config: TrainConfig) -> None:
    """Puts the places of this machine into the config of a fetched run: the job's own are gone."""
    path = Path(config.run_dir) / RUN_CONFIG
    if not path.is_file():
        return
    fetched = load_saved(path)
    save(
        replace(
            fetched,
            run_dir=config.run_dir,
            data=replace(fetched.data, dir=config.data.dir),
            cache=config.cache,
            model=replace(fetched.model, weights=config.model.weights),
        ),
        path,
    )


def _ended(described: Mapping[str, Any], run_dir: Path) -> str:
    """Returns what to print of a job that has ended and whose files are here.

    Raises:
        UserError: It did not come to its end.
    """
    lines = summary(described)
    if (run_dir / RUN_CONFIG).is_file():
        lines.append(f"report {build_report(run_dir)}")
    lines.append(f"run    {run_dir}")
    if not (run_dir / METRICS).is_file():
        raise UserError("\n".join(lines))
    return "\n".join(lines)

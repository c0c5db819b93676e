"""The actions of launch_sagemaker.py: train, search, attach to a job, stop one."""

from dataclasses import replace
from pathlib import Path

from hydra import compose

from dogbreeds import entry
from dogbreeds.config import load_saved, save
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.resuming import resumed
from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.report.build import build_report
from dogbreeds.run_directory import EXCLUDED, LEADERBOARD, METRICS, RUN_CONFIG, SEARCH_PAGE, TUNING_JOB
from dogbreeds.sagemaker.launch.begun import directory_of, finished
from dogbreeds.sagemaker.launch.job_handle import TUNING, JobHandle, summary
from dogbreeds.sagemaker.launch.launcher import Launcher
from dogbreeds.sagemaker.launch.one_job import search_in_one_job
from dogbreeds.sagemaker.launch.tuning import tune
from dogbreeds.sagemaker.protocol.hyperparameters import PREFIX
from dogbreeds.sagemaker.protocol.task import FEATURES
from dogbreeds.sagemaker.session import Account, connected
from dogbreeds.schema import SagemakerConfig, TrainConfig

_TASK = f"{PREFIX}task"
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
        return _followed(Launcher.of(account, _PROJECT).train(config), config)


def search(settings: SagemakerConfig, plan: Plan, directory: Path) -> str:
    """Searches in a tuning job, and returns what to print at its end."""
    with connected(settings) as account:
        return _search(account, plan, directory)


def attach(settings: SagemakerConfig, name: str, here: TrainConfig) -> str:
    """Follows an existing job; returns what to print at its end. `here` has the paths of this machine."""
    with connected(settings) as account:
        job, directory = JobHandle.find(account, name), directory_of(name)
        if directory is not None and (directory / TUNING_JOB).is_file():
            return _search_again(account, directory)
        if job.kind == TUNING:
            raise ConfigError(
                f"attach={name}: this search was begun elsewhere. Name its multirun directory, with -m and resume=, "
                f"or stop it: {job.hint('stop')}"
            )
        return _followed(job, here)


def stop(settings: SagemakerConfig, name: str) -> str:
    """Stops a training job or a tuning job, and returns what to print."""
    with connected(settings) as account:
        return JobHandle.find(account, name).stop()


def _search(account: Account, plan: Plan, directory: Path) -> str:
    launcher = Launcher.of(account, _PROJECT)
    if plan.settings.one_job:
        headline = search_in_one_job(launcher, plan, directory)
    else:
        headline = tune(launcher, plan, directory).headline()
    again = account.command("launch", override("best_of", directory))
    lines = [f"trials {directory / LEADERBOARD}", f"charts {directory / SEARCH_PAGE}", f"again  {again}"]
    return "\n".join(["", headline, *lines])


def _search_again(account: Account, directory: Path) -> str:
    """Follows a search by what its multirun directory says of it."""
    with entry.initialized("launch") as loader:
        master = compose("launch", return_hydra_config=True)
        plan = resumed(directory, [], lambda typed: loader.load_sweep_config(master, list(typed)), loader)
        return _search(account, plan, directory)


def _followed(job: JobHandle, here: TrainConfig) -> str:
    """Follows a training job, fetches its files, makes its report, and returns what to print."""
    described, run_dir = job.wait(), Path(here.run_dir)
    if described["HyperParameters"].get(_TASK) == FEATURES:
        return "\n".join(
            [*summary(described), "Its features are for the search that began it: type that command again."]
        )
    job.fetch(described, run_dir)
    finished(job.name)
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

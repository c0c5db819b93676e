"""The actions of launch_sagemaker.py: train, search, attach to a job, stop one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose

from dogbreeds.composing import initialized
from dogbreeds.config import MOVABLE, load_saved, save
from dogbreeds.data.kept import kept, named_files
from dogbreeds.directories import make_way
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.resuming import resumed, save_plan
from dogbreeds.installation import command
from dogbreeds.overrides import name_of, override, sets
from dogbreeds.report.build import build_report
from dogbreeds.run_directory import LEADERBOARD, METRICS, RUN_CONFIG, SEARCH_PAGE, TUNING_JOB
from dogbreeds.sagemaker.launch.begun import beginning, config_of, directory_of, finished, remember
from dogbreeds.sagemaker.launch.job_handle import TUNING, JobHandle, summary
from dogbreeds.sagemaker.launch.launcher import Launcher
from dogbreeds.sagemaker.launch.searches import bring, search_in_one_job
from dogbreeds.sagemaker.launch.tuning import tune
from dogbreeds.sagemaker.protocol.hyperparameters import FEATURES, SEARCH, TASK
from dogbreeds.sagemaker.session import Account, connected
from dogbreeds.schema import SagemakerConfig, TrainConfig

# The checkout that this package lies in: jobs run its code.
_PROJECT = Path(__file__).resolve().parents[3]


def train(settings: SagemakerConfig, config: TrainConfig) -> str:
    """Trains in a job, and returns what to print at its end."""
    if config.resume is not None:
        said = f"resume continues a run on this machine: {command('train')} {override('resume', config.resume)}."
        raise ConfigError(f"{said} A job that loses its Spot instance resumes by itself (sagemaker.spot).")
    with connected(settings) as account:
        return _followed(Launcher.of(account, _PROJECT).train(config), config, config)


def search(settings: SagemakerConfig, plan: Plan, directory: Path) -> str:
    """Searches in a tuning job, and returns what to print at its end."""
    with connected(settings) as account:
        return _search(account, plan, directory)


def attach(settings: SagemakerConfig, name: str, here: TrainConfig, typed: Sequence[str] = ()) -> str:
    """Follows an existing job; returns what to print at its end.

    `here`, made of what was `typed`, has the run directory of a job of which this machine knows nothing else.
    """
    with connected(settings) as account:
        job, directory = JobHandle.find(account, name), directory_of(name)
        placed = any(sets(one, "hydra.run.dir") for one in typed)
        if job.kind == TUNING or _does(job.describe(), SEARCH):
            if placed or directory is None or not (directory / TUNING_JOB).is_file():
                directory = Path(here.run_dir)
                with beginning():
                    bring(job, directory)
                    remember(name, "", directory)
            return _search_again(account, directory, job, [one for one in typed if name_of(one) in MOVABLE])
        launched = config_of(name)
        if launched is not None and not placed:
            make_way(Path(launched.run_dir))
            here = replace(here, run_dir=launched.run_dir)
        return _followed(job, here, launched)


def stop(settings: SagemakerConfig, name: str) -> str:
    """Stops a training job or a tuning job, and returns what to print."""
    with connected(settings) as account:
        return JobHandle.find(account, name).stop()


def _search(account: Account, plan: Plan, directory: Path, job: JobHandle | None = None) -> str:
    launcher = Launcher.of(account, _PROJECT)
    if plan.settings.one_job:
        headline = search_in_one_job(launcher, plan, directory, job)
    else:
        headline = tune(launcher, plan, directory, job).headline()
    again = account.command("launch", override("best_of", directory), begins=True)
    lines = [f"trials {directory / LEADERBOARD}", f"charts {directory / SEARCH_PAGE}", f"again  {again}"]
    return "\n".join(["", headline, *lines])


def _search_again(account: Account, directory: Path, job: JobHandle, moved: list[str]) -> str:
    """Follows the job of a search, which is described in its multirun directory; `moved` are overrides of this time."""
    with initialized("launch") as loader:
        master = compose("launch", return_hydra_config=True)
        plan = resumed(directory, moved, lambda typed: loader.load_sweep_config(master, list(typed)), loader)
        save_plan(plan, directory)
        return _search(account, plan, directory, job)


def _does(described: Mapping[str, Any], task: str) -> bool:
    return bool(described.get("HyperParameters", {}).get(TASK) == task)


def _followed(job: JobHandle, here: TrainConfig, launched: TrainConfig | None) -> str:
    """Follows a training job, fetches its files into the run directory of `here`, and returns what to print."""
    described, run_dir = job.wait(), Path(here.run_dir)
    if _does(described, FEATURES):
        again = "Its features are for the search that began it: type that command again."
        return "\n".join([*summary(described), again])
    job.fetch(described, run_dir)
    finished(job.name)
    lines = summary(described)
    if (run_dir / RUN_CONFIG).is_file():
        _relocate(here, launched)
        lines.append(f"report {build_report(run_dir)}")
    lines.append(f"run    {run_dir}")
    if not (run_dir / METRICS).is_file():
        raise UserError("\n".join(lines))
    return "\n".join(lines)


def _relocate(here: TrainConfig, launched: TrainConfig | None) -> None:
    """Replaces the paths of the job in the config of a fetched run by those that it was launched with."""
    path = Path(here.run_dir) / RUN_CONFIG
    fetched = load_saved(path)
    if launched is None:
        # Where photos and weights lie is known to who began the job.
        launched = replace(fetched, cache=here.cache)
    # Copies of the files that it was given are in its own directory too.
    copies = kept(named_files(fetched.data), path.parent)
    data = replace(fetched.data, dir=launched.data.dir, **copies)
    model = replace(fetched.model, weights=launched.model.weights)
    save(replace(fetched, run_dir=here.run_dir, data=data, cache=launched.cache, model=model), path)

"""A whole search inside one training job (hpo.one_job=true), for trials that are shorter than an instance's start."""

from __future__ import annotations

import shutil
from pathlib import Path

from dogbreeds.config import read_yaml
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.hpo.leaderboard import FINISHED, Entry, remember, save_best
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.settings import Objective
from dogbreeds.overrides import name_of, sets
from dogbreeds.run_directory import BEST, MODEL, MODEL_ARCHIVE
from dogbreeds.sagemaker.launch.follow import summary
from dogbreeds.sagemaker.launch.launcher import JobPlan, Launcher, fetch, without_managed_debugger
from dogbreeds.sagemaker.protocol.inputs import JobInputs, job_inputs
from dogbreeds.sagemaker.protocol.task import SEARCH, Task

# Says where a search is launched from, not what it is.
_NOT_SENT = ("sagemaker", "hydra", "cache", "run_dir", "paths", "debugger", "hpo.one_job")


def search_in_one_job(launcher: Launcher, plan: Plan, directory: Path) -> str:
    """Runs a search inside one training job, fetches its multirun directory, and describes the best trial."""
    if "data" in plan.space.dimensions:
        raise ConfigError("data=...: a job gets the photos of one folder. Search each folder by its own command.")
    settings, config = launcher.settings, without_managed_debugger(plan.first(directory))
    corners = [without_managed_debugger(corner) for corner in plan.corners]
    # Refuses to vary files; varied settings travel in the command line.
    inputs = job_inputs(config, corners, list(plan.space.dimensions))
    arguments = tuple(one for one in plan.arguments if _is_sent(one, inputs))
    job = JobPlan(
        name=launcher.new_name(),
        inputs=inputs,
        task=Task(SEARCH, settings.checkpoint_seconds, arguments),
        debugger=config.debugger,
        instance=settings.instance,
        extras=["search"],
    )
    described = launcher.run(job)
    fetch(launcher.account, described, directory)
    if not (directory / BEST).is_file():
        raise UserError("\n".join(summary(described)))
    best = read_yaml(directory / BEST)
    for made in (MODEL, MODEL_ARCHIVE):
        if (directory / made).exists():
            shutil.move(directory / made, directory / str(best["trial"]) / made)
    objective = Objective(best["objective"])
    entry = Entry(best["trial"], FINISHED, best["values"], best["value"])
    save_best(directory / BEST, entry, objective, plan.overrides(best["values"]))
    remember(described["TrainingJobName"], directory / BEST)
    values = " ".join(f"{setting}={value}" for setting, value in best["values"].items())
    return f"best: trial {best['trial']} with {best['objective']} {best['value']:.4f}, {values}"


def _is_sent(argument: str, inputs: JobInputs) -> bool:
    return name_of(argument) not in (*inputs.files, "data") and not sets(argument, *_NOT_SENT)

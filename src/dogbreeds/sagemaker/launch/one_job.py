"""A whole search inside one training job: hpo.one_job=true, where starting machines would outlast all trials."""

from __future__ import annotations

import shutil
from pathlib import Path

from dogbreeds.config import read_yaml
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.hpo.leaderboard import FINISHED, Entry, remember, save_best
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.settings import Objective
from dogbreeds.run_directory import BEST
from dogbreeds.sagemaker.launch.follow import summary
from dogbreeds.sagemaker.launch.launcher import Launcher, unmanaged
from dogbreeds.sagemaker.protocol.inputs import Crossing, outgoing
from dogbreeds.sagemaker.protocol.task import SEARCH, Task

# What says where a search is launched from, and not what it is.
_NOT_SENT = ("sagemaker", "hydra", "data=", "cache.", "run_dir", "paths", "debugger", "hpo.one_job")


def search_in_one_job(launcher: Launcher, plan: Plan, directory: Path) -> str:
    """Runs the search of this machine inside a training job, and fetches the multirun directory that it leaves.

    Returns:
        What the best trial is.

    Raises:
        UserError: It cannot be sent, or did not come to its end.
    """
    if "data" in plan.space.dimensions:
        raise ConfigError("data=...: a job is given the photos of one folder. Search each by a command of its own.")
    settings, config = launcher.settings, unmanaged(plan.first(directory))
    # Refuses to vary which files a job is given; what is varied comes with the command line.
    crossing = outgoing(config, [unmanaged(corner) for corner in plan.corners], list(plan.space.dimensions))
    arguments = tuple(one for one in plan.arguments if _is_sent(one, crossing))
    task = Task(SEARCH, settings.checkpoint_seconds, arguments)
    described = launcher.run(crossing, task, config.debugger, settings.instance, 1, extras=["search"])
    launcher.fetch(described, directory)
    if not (directory / BEST).is_file():
        raise UserError("\n".join(summary(described)))
    best = read_yaml(directory / BEST)
    for made in ("model", "model.tar.gz"):
        if (directory / made).exists():
            shutil.move(directory / made, directory / str(best["trial"]) / made)
    objective = Objective(best["objective"])
    entry = Entry(best["trial"], FINISHED, best["values"], best["value"])
    save_best(directory / BEST, entry, objective, plan.overrides(best["values"]))
    remember(described["TrainingJobName"], directory / BEST)
    values = " ".join(f"{setting}={value}" for setting, value in best["values"].items())
    return f"best: trial {best['trial']} with {best['objective']} {best['value']:.4f}, {values}"


def _is_sent(argument: str, crossing: Crossing) -> bool:
    name = argument.split("=")[0].lstrip("+~")
    return name not in crossing.files and not argument.lstrip("+~").startswith(_NOT_SENT)

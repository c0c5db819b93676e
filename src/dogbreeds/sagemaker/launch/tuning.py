"""Runs a search as a SageMaker tuning job, with the same results as a search on this machine."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dogbreeds.errors import ConfigError
from dogbreeds.files import write_text
from dogbreeds.hpo.leaderboard import Leaderboard, remember, save_best
from dogbreeds.hpo.page import build_search_page
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.resuming import save_plan
from dogbreeds.hpo.settings import Objective
from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.run_directory import BEST, LEADERBOARD, SEARCH_CONFIG, TUNING_JOB
from dogbreeds.sagemaker.launch.features import trial_features
from dogbreeds.sagemaker.launch.follow import ENDED
from dogbreeds.sagemaker.launch.launcher import (
    MAX_TUNING_JOB_NAME,
    JobPlan,
    Launcher,
    fetch,
    job_name,
    without_managed_debugger,
)
from dogbreeds.sagemaker.launch.tuning_results import entry, trials_of
from dogbreeds.sagemaker.protocol.inputs import FEATURES, job_inputs
from dogbreeds.sagemaker.protocol.metrics import metric_definitions
from dogbreeds.sagemaker.protocol.task import TRIAL, Task
from dogbreeds.sagemaker.requests.tuning import tuning_request
from dogbreeds.sagemaker.session import explain_detach

log = logging.getLogger(__name__)


def tune(launcher: Launcher, plan: Plan, directory: Path) -> Leaderboard:
    """Runs a search as a tuning job, or follows the one that a multirun directory belongs to."""
    objective = Objective(plan.settings.objective)
    started = directory / TUNING_JOB
    if started.is_file():
        content = json.loads(started.read_text(encoding="utf-8"))
        name = str(content["tuning_job"])
        if content["trials"] != plan.settings.trials:
            raise ConfigError(
                f"{name} has {content['trials']} trials, and a tuning job cannot get more. Start another one that "
                f"learns from them: hpo.warm_start=[{name}]."
            )
    elif (directory / SEARCH_CONFIG).is_file():
        raise ConfigError(
            f"{directory} is a search on this machine: {command('train')} -m {override('resume', directory)}"
        )
    else:
        plan.keep_excluded(directory)
        name = _start(launcher, plan, directory, objective)
        write_text(started, json.dumps({"tuning_job": name, "trials": plan.settings.trials}) + "\n")
        save_plan(plan, directory)
    _follow(launcher, name, directory)
    return _results(launcher, name, plan, objective, directory)


def _start(launcher: Launcher, plan: Plan, directory: Path, objective: Objective) -> str:
    if not plan.prepares_once:
        raise ConfigError(
            "The trials differ in backbone or features, but a tuning job gives all of them the same: search inside "
            "one job with hpo.one_job=true."
        )
    settings, config = launcher.settings, without_managed_debugger(plan.first(directory))
    corners = [without_managed_debugger(corner) for corner in plan.corners]
    trial = JobPlan(
        name=job_name(settings.prefix, MAX_TUNING_JOB_NAME),
        inputs=job_inputs(config, corners, list(plan.space.dimensions)),
        task=Task(TRIAL, settings.checkpoint_seconds),
        debugger=config.debugger,
        instance=settings.trial_instance,
        # Trials are short, and AWS does not document whether it keeps their checkpoints apart.
        checkpoints=False,
    )

    def request(channels: Mapping[str, str], code: str) -> dict[str, Any]:
        job = launcher.job(trial, channels, code)
        return tuning_request(job, settings, plan.settings, plan.space, objective, metric_definitions())

    launcher.check("CreateHyperParameterTuningJob", request, [*trial.inputs.channels(), FEATURES])
    channels = {**launcher.upload(trial.inputs), FEATURES: trial_features(launcher, config)}
    sent = request(channels, launcher.storage.upload_code(launcher.project, trial.inputs.extras))
    log.info("tuning job %s: trials on %s, %d at a time", trial.name, trial.instance, plan.settings.parallel)
    launcher.create("CreateHyperParameterTuningJob", sent)
    return trial.name


def _follow(launcher: Launcher, name: str, directory: Path) -> None:
    account, printed = launcher.account, ""
    # A search resumes where it was started: sagemaker.* need not be typed again.
    with explain_detach(account, "The job", f"{command('launch')} -m {override('resume', directory)}"):
        while True:
            described = account.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
            status = _status(described)
            if status != printed:
                log.info("%s  %s", name, status)
                printed = status
            if described["HyperParameterTuningJobStatus"] in ENDED:
                return
            time.sleep(account.poll_seconds)


def _status(described: Mapping[str, Any]) -> str:
    counters = described.get("TrainingJobStatusCounters", {})
    counts = ", ".join(f"{count} {name}" for name, count in counters.items() if count)
    best = described.get("BestTrainingJob", {}).get("FinalHyperParameterTuningJobObjectiveMetric")
    reached = f"; best {best['MetricName']} {best['Value']:.4f}" if best else ""
    return f"{described['HyperParameterTuningJobStatus']}{f' ({counts})' if counts else ''}{reached}"


def _results(launcher: Launcher, name: str, plan: Plan, objective: Objective, directory: Path) -> Leaderboard:
    """Writes the files of a search: leaderboard, trials, best values, page."""
    trials = trials_of(launcher.account, name)
    found = (entry(number, *trial, plan.space, objective) for number, trial in enumerate(trials))
    board = Leaderboard.of(objective, list(found))
    board.save(directory / LEADERBOARD)
    best = board.winner(name)
    for number, (_, job) in enumerate(trials):
        fetch(launcher.account, job, directory / str(number))
    save_best(directory / BEST, best, objective, plan.overrides(best.values))
    remember(name, directory / BEST)
    build_search_page(directory, board, plan.space, debug=plan.debug)
    return board

"""Runs a search as a SageMaker tuning job, with the same results as a search on this machine."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dogbreeds.errors import ConfigError
from dogbreeds.hpo.leaderboard import Leaderboard, remember, save_best
from dogbreeds.hpo.page import build_search_page
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.settings import Objective
from dogbreeds.run_directory import BEST, LEADERBOARD
from dogbreeds.sagemaker.launch.begun import finished
from dogbreeds.sagemaker.launch.features import trial_features
from dogbreeds.sagemaker.launch.follow import TUNING
from dogbreeds.sagemaker.launch.job_handle import MAX_TUNING_JOB_NAME, JobHandle
from dogbreeds.sagemaker.launch.launcher import JobPlan, Launcher, job_name, without_managed_debugger
from dogbreeds.sagemaker.launch.searches import begun, job_of
from dogbreeds.sagemaker.launch.tuning_results import entry, trials_of
from dogbreeds.sagemaker.protocol.inputs import FEATURES, job_inputs
from dogbreeds.sagemaker.protocol.metrics import metric_definitions
from dogbreeds.sagemaker.protocol.task import TRIAL, Task
from dogbreeds.sagemaker.requests.tuning import tuning_request

log = logging.getLogger(__name__)


def tune(launcher: Launcher, plan: Plan, directory: Path) -> Leaderboard:
    """Runs a search as a tuning job, or follows the one that a multirun directory belongs to."""
    job = job_of(launcher.account, plan, directory)
    if job is None:
        plan.keep_excluded(directory)
        kind, request = TUNING, _request(launcher, plan, directory)
        job = begun(plan, directory, lambda note: launcher.begin(kind, request, directory, note))
    job.wait()
    board = _results(job, plan, directory)
    finished(job.name)
    return board


def _request(launcher: Launcher, plan: Plan, directory: Path) -> dict[str, Any]:
    """Returns the request of a tuning job, whose files are in S3 then."""
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
    objective = Objective(plan.settings.objective)

    def request(channels: Mapping[str, str], code: str) -> dict[str, Any]:
        job = launcher.job(trial, channels, code)
        return tuning_request(job, settings, plan.settings, plan.space, objective, metric_definitions())

    launcher.check(TUNING, request, [*trial.inputs.channels(), FEATURES])
    channels = {**launcher.upload(trial.inputs), FEATURES: trial_features(launcher, config)}
    log.info("tuning job %s: trials on %s, %d at a time", trial.name, trial.instance, plan.settings.parallel)
    return request(channels, launcher.storage.upload_code(launcher.project, trial.inputs.extras))


def _results(job: JobHandle, plan: Plan, directory: Path) -> Leaderboard:
    """Writes the files of a search: leaderboard, trials, best values, page."""
    trials, objective = trials_of(job), Objective(plan.settings.objective)
    found = (entry(number, *trial, plan.space, objective) for number, trial in enumerate(trials))
    board = Leaderboard.of(objective, list(found))
    board.save(directory / LEADERBOARD)
    best = board.winner(job.name)
    for number, (_, described) in enumerate(trials):
        job.fetch(described, directory / str(number))
    save_best(directory / BEST, best, objective, plan.overrides(best.values))
    remember(job.name, directory / BEST)
    build_search_page(directory, board, plan.space, debug=plan.debug)
    return board

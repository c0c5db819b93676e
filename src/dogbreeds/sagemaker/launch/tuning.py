"""Runs a search as a SageMaker tuning job, with the same results as a search on this machine."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dogbreeds.errors import ConfigError
from dogbreeds.hpo import leaderboard
from dogbreeds.hpo.leaderboard import Entry, Leaderboard, remember, save_best
from dogbreeds.hpo.page import build_search_page
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.settings import Objective
from dogbreeds.hpo.space import Choice, Dimension, Space
from dogbreeds.run_directory import BEST, LEADERBOARD
from dogbreeds.sagemaker.launch.begun import finished
from dogbreeds.sagemaker.launch.features import trial_features
from dogbreeds.sagemaker.launch.job_handle import MAX_TUNING_JOB_NAME, TUNING, JobHandle
from dogbreeds.sagemaker.launch.launcher import JobPlan, Launcher, job_name
from dogbreeds.sagemaker.launch.searches import begun, job_of, refuse_managed_debugger
from dogbreeds.sagemaker.protocol.hyperparameters import TRIAL, Task
from dogbreeds.sagemaker.protocol.inputs import FEATURES, job_inputs
from dogbreeds.sagemaker.requests.tuning import tuning_request

log = logging.getLogger(__name__)

_STATES = {"Completed": leaderboard.FINISHED, "Failed": leaderboard.FAILED, "Stopped": leaderboard.PRUNED}


def tune(launcher: Launcher, plan: Plan, directory: Path, job: JobHandle | None = None) -> Leaderboard:
    """Runs a search as a tuning job, or follows `job` or the one that a multirun directory belongs to."""
    job = job or job_of(launcher.account, plan, directory)
    if job is None:
        plan.keep_files(directory)
        kind, request = TUNING, _request(launcher, plan, directory)
        job = begun(plan, directory, launcher.storage, lambda note: launcher.begin(kind, request, directory, note))
    job.wait()
    board = _results(job, plan, directory)
    finished(job.name)
    return board


def _request(launcher: Launcher, plan: Plan, directory: Path) -> dict[str, Any]:
    """Returns the request of a tuning job, whose files are in S3 then."""
    if not plan.prepares_once:
        said = "The trials differ in backbone or features, but a tuning job gives all of them the same:"
        raise ConfigError(f"{said} search inside one job with hpo.one_job=true.")
    settings, config = launcher.settings, plan.first(directory)
    refuse_managed_debugger(config)
    name, task = job_name(settings.prefix, MAX_TUNING_JOB_NAME), Task(TRIAL, settings.checkpoint_seconds)
    inputs = job_inputs(config, plan.corners, list(plan.space.dimensions))
    # Trials are short, and AWS does not document whether it keeps their checkpoints apart.
    trial = JobPlan(name, inputs, task, config.debugger, settings.trial_instance, checkpoints=False)

    def request(channels: Mapping[str, str], code: str) -> dict[str, Any]:
        job = launcher.job(trial, channels, code)
        return tuning_request(job, settings, plan.settings, plan.space)

    launcher.check(TUNING, request, [*trial.inputs.channels(), FEATURES])
    channels = {**launcher.upload(trial.inputs), FEATURES: trial_features(launcher, config)}
    log.info("tuning job %s: trials on %s, %d at a time", trial.name, trial.instance, plan.settings.parallel)
    return request(channels, launcher.storage.upload_code(launcher.project, trial.inputs.extras))


def _results(job: JobHandle, plan: Plan, directory: Path) -> Leaderboard:
    """Writes the files of a search: leaderboard, trials, best values, page."""
    trials, objective = trials_of(job), Objective(plan.settings.objective)
    found = (_entry(number, *trial, plan.space, objective) for number, trial in enumerate(trials))
    board = Leaderboard.of(objective, list(found), directory, debug=plan.debug)
    board.save(directory / LEADERBOARD)
    best = board.winner(job.name)
    for number, (_, described) in enumerate(trials):
        job.fetch(described, directory / str(number))
    save_best(directory / BEST, best, objective, plan.overrides(best.values))
    remember(job.name, directory / BEST)
    build_search_page(board, plan.space)
    return board


def trials_of(tuning_job: JobHandle) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Returns the trials of a tuning job as they began: the settings chosen for each, and AWS's description."""

    def listed() -> list[dict[str, Any]]:
        paginator = tuning_job.account.sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
        order = {"SortBy": "CreationTime", "SortOrder": "Ascending"}
        pages = paginator.paginate(HyperParameterTuningJobName=tuning_job.name, **order)
        return [summary for page in pages for summary in page["TrainingJobSummaries"]]

    def described(name: str) -> dict[str, Any]:
        return tuning_job.followed.ask(lambda: JobHandle(tuning_job.account, name).describe())

    return [(one["TunedHyperParameters"], described(one["TrainingJobName"])) for one in tuning_job.followed.ask(listed)]


def _entry(number: int, tuned: Mapping[str, str], job: Mapping[str, Any], space: Space, objective: Objective) -> Entry:
    metrics = {one["MetricName"]: float(one["Value"]) for one in job.get("FinalMetricDataList", [])}
    value = metrics.get(objective.name)
    state = _STATES.get(job["TrainingJobStatus"], leaderboard.INTERRUPTED)
    if state == leaderboard.FINISHED and value is None:
        state = leaderboard.NAN
    return Entry(
        number=number,
        state=state,
        values={name: _value(dimension, tuned[name]) for name, dimension in space.dimensions.items()},
        value=value,
        metrics=metrics,
        epochs=int(metrics.get("epoch", 0)),
        seconds=float(job.get("TrainingTimeInSeconds", 0)),
        message=job.get("FailureReason", ""),
    )


def _value(dimension: Dimension, text: str) -> float | str:
    """Parses a tuned value: a string, which AWS's own tools may have quoted once more."""
    if isinstance(dimension, Choice):
        return text if text in dimension.values else str(json.loads(text))
    return int(float(text)) if dimension.integer else float(text)

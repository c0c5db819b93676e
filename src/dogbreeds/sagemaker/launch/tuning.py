"""Runs a search as a SageMaker tuning job, with the same results as a search on this machine.

The features of its trials are computed once, by a job or on this machine.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.hpo import leaderboard
from dogbreeds.hpo.leaderboard import Entry, Leaderboard, remember, save_best
from dogbreeds.hpo.page import build_search_page
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.settings import Objective
from dogbreeds.hpo.space import Choice, Dimension, Space
from dogbreeds.run_directory import BEST, LEADERBOARD
from dogbreeds.sagemaker.launch.begun import finished
from dogbreeds.sagemaker.launch.job_handle import MAX_TUNING_JOB_NAME, TUNING, JobHandle, summary
from dogbreeds.sagemaker.launch.launcher import JobPlan, Launcher, job_name, without_managed_debugger
from dogbreeds.sagemaker.launch.searches import begun, job_of
from dogbreeds.sagemaker.protocol.hyperparameters import FEATURES, TRIAL, Task
from dogbreeds.sagemaker.protocol.inputs import FEATURES as FEATURES_CHANNEL
from dogbreeds.sagemaker.protocol.inputs import JobInputs, job_inputs
from dogbreeds.sagemaker.requests.job import tuning_request
from dogbreeds.schema import TrainConfig
from dogbreeds.training.features_only import prepare_features
from dogbreeds.training.preparation import preparation_key

log = logging.getLogger(__name__)

_STATES = {"Completed": leaderboard.FINISHED, "Failed": leaderboard.FAILED, "Stopped": leaderboard.PRUNED}


def tune(launcher: Launcher, plan: Plan, directory: Path, job: JobHandle | None = None) -> Leaderboard:
    """Runs a search as a tuning job, or follows `job` or the one that a multirun directory belongs to."""
    job = job or job_of(launcher.account, plan, directory)
    if job is None:
        plan.keep_files(directory)
        kind, request = TUNING, _request(launcher, plan, directory)
        job = begun(plan, directory, lambda note: launcher.begin(kind, request, directory, note))
    job.wait()
    board = _results(job, plan, directory)
    finished(job.name)
    return board


def _request(launcher: Launcher, plan: Plan, directory: Path) -> dict[str, Any]:
    """Returns the request of a tuning job, whose files are in S3 then."""
    if not plan.prepares_once:
        said = "The trials differ in backbone or features, but a tuning job gives all of them the same:"
        raise ConfigError(f"{said} search inside one job with hpo.one_job=true.")
    settings, config = launcher.settings, without_managed_debugger(plan.first(directory))
    corners = [without_managed_debugger(corner) for corner in plan.corners]
    name, task = job_name(settings.prefix, MAX_TUNING_JOB_NAME), Task(TRIAL, settings.checkpoint_seconds)
    inputs = job_inputs(config, corners, list(plan.space.dimensions))
    # Trials are short, and AWS does not document whether it keeps their checkpoints apart.
    trial = JobPlan(name, inputs, task, config.debugger, settings.trial_instance, checkpoints=False)

    def request(channels: Mapping[str, str], code: str) -> dict[str, Any]:
        job = launcher.job(trial, channels, code)
        return tuning_request(job, settings, plan.settings, plan.space)

    launcher.check(TUNING, request, [*trial.inputs.channels(), FEATURES_CHANNEL])
    channels = {**launcher.upload(trial.inputs), FEATURES_CHANNEL: trial_features(launcher, config)}
    log.info("tuning job %s: trials on %s, %d at a time", trial.name, trial.instance, plan.settings.parallel)
    return request(channels, launcher.storage.upload_code(launcher.project, trial.inputs.extras))


def _results(job: JobHandle, plan: Plan, directory: Path) -> Leaderboard:
    """Writes the files of a search: leaderboard, trials, best values, page."""
    trials, objective = trials_of(job), Objective(plan.settings.objective)
    found = (_entry(number, *trial, plan.space, objective) for number, trial in enumerate(trials))
    board = Leaderboard.of(objective, list(found))
    board.save(directory / LEADERBOARD)
    best = board.winner(job.name)
    for number, (_, described) in enumerate(trials):
        job.fetch(described, directory / str(number))
    save_best(directory / BEST, best, objective, plan.overrides(best.values))
    remember(job.name, directory / BEST)
    build_search_page(directory, board, plan.space, debug=plan.debug)
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


def trial_features(launcher: Launcher, config: TrainConfig) -> str:
    """Returns the URI of the features of all trials; where S3 lacks them, they are computed by a job or here.

    A job that an earlier command began for the same features is followed, not paid twice.
    """
    settings, inputs, storage = launcher.settings, job_inputs(config), launcher.storage
    if settings.features_instance is None and settings.features_instances > 1:
        count = f"sagemaker.features_instances={settings.features_instances}"
        raise ConfigError(f"{count}: name their type (sagemaker.features_instance=null computes on this machine).")
    place = storage.uri("prepared", f"{_key(config, inputs, launcher.upload(inputs))}.json")
    known = storage.read_json(place) if storage.exists(place) else {}
    found = _of_earlier_job(launcher, known["job"]) if "job" in known else known.get("features")
    if found is not None and (found.endswith("/") or storage.exists(found)):
        log.info("features are already in S3")
        return found
    if settings.features_instance is None:
        # In a separate store, so that only these are uploaded.
        with tempfile.TemporaryDirectory(prefix="dogbreeds-features-") as store:
            prepare_features(replace(config, cache=replace(config.cache, dir=store)))
            found = launcher.storage.upload_features(Path(store))
        storage.write_json(place, {"features": found})
        return found
    task, on = Task(FEATURES, settings.checkpoint_seconds), (settings.features_instance, settings.features_instances)
    plan = JobPlan(launcher.new_name(), inputs, task, config.debugger, *on)
    return _output(launcher.run(plan, lambda name: storage.write_json(place, {"job": name})))


def _key(config: TrainConfig, inputs: JobInputs, channels: Mapping[str, str]) -> str:
    """Returns a key of all that decides the features: files count by their content, wherever they lie here."""
    data = replace(config.data, dir="", labels=None, exclude=None, workers=None)
    model = replace(config.model, weights="") if "model.weights" in inputs.files else config.model
    needs = preparation_key(replace(config, data=data, model=model))
    return hashlib.sha256(f"{needs} {sorted(channels.items())}".encode()).hexdigest()


def _of_earlier_job(launcher: Launcher, name: str) -> str | None:
    """Returns the features of a job, waiting for its end; None where it failed, was stopped, or never began."""
    job = JobHandle(launcher.account, name)
    status = job.status() if job.exists() else "Failed"
    if status in ("Failed", "Stopped"):
        return None
    if status != "Completed":
        log.info("features are being computed by %s, which was begun earlier", name)
    return _output(job.wait() if status != "Completed" else job.describe())


def _output(described: Mapping[str, Any]) -> str:
    if described["TrainingJobStatus"] != "Completed":
        raise UserError("\n".join(["The features could not be computed.", *summary(described)]))
    return f"{described['OutputDataConfig']['S3OutputPath']}/{described['TrainingJobName']}/output/output.tar.gz"

"""Sends a search to SageMaker as a tuning job, follows it, and leaves what a search on this machine would leave."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dogbreeds.atomic import write_text
from dogbreeds.config import what_is_prepared
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.report.search import build_search_page
from dogbreeds.sagemaker.crossing import FEATURES, PHOTOS, outgoing
from dogbreeds.sagemaker.launching import LONGEST_JOB, LONGEST_TUNING_JOB, Launcher, Left, job_name
from dogbreeds.sagemaker.metrics import metric_definitions
from dogbreeds.sagemaker.progress import ENDED, describe
from dogbreeds.sagemaker.tasks import FEATURES as FEATURES_TASK
from dogbreeds.sagemaker.tasks import TRIAL, Task
from dogbreeds.sagemaker.training_job import training_request
from dogbreeds.sagemaker.tuning_job import tuning_request
from dogbreeds.sagemaker.tuning_results import entries, job_names
from dogbreeds.search.leaderboard import BEST, LEADERBOARD, Leaderboard, remember, save_best
from dogbreeds.search.plan import Plan
from dogbreeds.search.settings import Objective

log = logging.getLogger(__name__)

#: Names the tuning job of a multirun directory.
TUNING_JOB = "tuning_job.json"
_SECONDS = {True: 0.5, False: 15.0}


def tune(launcher: Launcher, plan: Plan, directory: Path) -> Leaderboard:
    """Runs a search as a tuning job.

    Args:
        launcher: Sends it.
        plan: What is searched.
        directory: The multirun directory.

    Raises:
        UserError: It cannot be sent, or no trial came to an end.
    """
    if not plan.prepares_once:
        raise ConfigError(
            "The trials differ in photos, backbone or features, and a tuning job gives all the same: search inside "
            "one job with hpo.one_job=true."
        )
    config = plan.first(directory)
    crossing = outgoing(config, plan.corners, list(plan.space.dimensions))
    features = _features(launcher, plan, directory)
    name = job_name(launcher.settings.prefix, LONGEST_TUNING_JOB)
    channels = {**launcher.upload(crossing), FEATURES: features}
    task = Task(TRIAL, launcher.settings.checkpoint_seconds)
    settings = launcher.settings
    job = launcher.job(name, crossing, task, channels, launcher.upload_code(config), settings.trial_instance, 1)
    objective = Objective(plan.settings.objective)
    request = tuning_request(
        replace(job, checkpoints=None), settings, plan.settings, plan.space, objective, metric_definitions()
    )
    log.info("tuning job %s: trials on %s, %d at a time", name, settings.trial_instance, plan.settings.parallel)
    launcher.create("CreateHyperParameterTuningJob", request)
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / TUNING_JOB, json.dumps({"tuning_job": name}) + "\n")
    _follow(launcher, name)
    return _results(launcher, name, plan, objective, directory)


def _features(launcher: Launcher, plan: Plan, directory: Path) -> str:
    """Returns where in S3 the features of all trials are; one job computes them unless they are there."""
    config = plan.first(directory)
    crossing = outgoing(config)
    channels = launcher.upload(crossing)
    key = hashlib.sha256(f"{what_is_prepared(config)} {channels[PHOTOS]}".encode()).hexdigest()
    place = launcher.storage.uri("prepared", f"{key}.json")
    if launcher.storage.exists(place):
        log.info("features are in S3 already")
        return launcher.read(place)["features"]
    name = job_name(launcher.settings.prefix, LONGEST_JOB)
    log.info("features by job %s on %s", name, launcher.settings.features_instance)
    task = Task(FEATURES_TASK, launcher.settings.checkpoint_seconds)
    instance = launcher.settings.features_instance
    job = launcher.job(name, crossing, task, channels, launcher.upload_code(config), instance, 1)
    off = replace(config.debugger, managed=None)
    launcher.create("CreateTrainingJob", training_request(job, launcher.settings, off, metric_definitions()))
    described = launcher.follow(name)
    if described["TrainingJobStatus"] != "Completed":
        raise UserError(
            f"The features could not be computed: {described.get('FailureReason', 'the job was stopped')}"
        )
    found = f"{job.output}/{name}/output/output.tar.gz"
    launcher.write(place, {"features": found})
    return found


def _follow(launcher: Launcher, name: str) -> None:
    """Says how a tuning job gets on, until it has ended."""
    told = ""
    try:
        while True:
            described = launcher.session.sagemaker.describe_hyper_parameter_tuning_job(
                HyperParameterTuningJobName=name
            )
            status = _status(described)
            if status != told:
                log.info("%s  %s", name, status)
                told = status
            if described["HyperParameterTuningJobStatus"] in ENDED:
                return
            time.sleep(_SECONDS[launcher.session.rehearsal])
    except KeyboardInterrupt:
        raise Left(name, launcher.session.rehearsal) from None


def _status(described: Mapping[str, Any]) -> str:
    counters = described.get("TrainingJobStatusCounters", {})
    counts = ", ".join(f"{count} {name}" for name, count in counters.items() if count)
    best = described.get("BestTrainingJob", {}).get("FinalHyperParameterTuningJobObjectiveMetric")
    reached = f"; best {best['MetricName']} {best['Value']:.4f}" if best else ""
    return f"{described['HyperParameterTuningJobStatus']}{f' ({counts})' if counts else ''}{reached}"


def _results(launcher: Launcher, name: str, plan: Plan, objective: Objective, directory: Path) -> Leaderboard:
    """Writes what a search on this machine would have written."""
    board = Leaderboard.of(objective, entries(launcher.session, name, plan.space, objective))
    board.save(directory / LEADERBOARD)
    if board.best is None:
        failed = next((entry for entry in board.entries if entry.message), None)
        reason = f" Trial {failed.number}: {failed.message}" if failed else ""
        raise UserError(f"No trial of {name} came to an end ({board.summary()}).{reason}")
    for number, trial in enumerate(job_names(launcher.session, name)):
        launcher.fetch(describe(launcher.session, trial), directory / str(number))
    save_best(directory / BEST, board.best, objective, plan.overrides(board.best.values))
    remember(name, directory / BEST)
    build_search_page(directory, board, plan.space, debug=plan.debug)
    return board

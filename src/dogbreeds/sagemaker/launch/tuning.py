"""Sends a search to SageMaker as a tuning job, follows it, and leaves what a search on this machine would leave."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.files import write_text
from dogbreeds.hpo.leaderboard import Leaderboard, remember, save_best
from dogbreeds.hpo.page import build_search_page
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.resuming import save_plan
from dogbreeds.hpo.settings import Objective
from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.run_directory import BEST, LEADERBOARD, SEARCH_CONFIG, TUNING_JOB
from dogbreeds.sagemaker.launch.follow import ENDED, summary
from dogbreeds.sagemaker.launch.launcher import LONGEST_TUNING_JOB, Launcher, job_name, leaving, unmanaged
from dogbreeds.sagemaker.launch.tuning_results import entry, trials_of
from dogbreeds.sagemaker.protocol.inputs import FEATURES, Crossing, outgoing
from dogbreeds.sagemaker.protocol.metrics import metric_definitions
from dogbreeds.sagemaker.protocol.task import FEATURES as FEATURES_TASK
from dogbreeds.sagemaker.protocol.task import TRIAL, Task
from dogbreeds.sagemaker.requests.tuning import tuning_request
from dogbreeds.schema import TrainConfig
from dogbreeds.training.preparation import preparation_key
from dogbreeds.training.run import prepare_features

log = logging.getLogger(__name__)


def tune(launcher: Launcher, plan: Plan, directory: Path) -> Leaderboard:
    """Runs a search as a tuning job.

    Args:
        launcher: Sends it.
        plan: What is searched.
        directory: The multirun directory.

    Raises:
        UserError: It cannot be sent, or no trial came to an end.
    """
    objective = Objective(plan.settings.objective)
    begun = directory / TUNING_JOB
    if begun.is_file():
        content = json.loads(begun.read_text(encoding="utf-8"))
        name = str(content["tuning_job"])
        if content["trials"] != plan.settings.trials:
            raise ConfigError(
                f"{name} has {content['trials']} trials, and a tuning job takes no more. Begin another one that "
                f"knows them: hpo.warm_start=[{name}]."
            )
    elif (directory / SEARCH_CONFIG).is_file():
        raise ConfigError(
            f"{directory} is a search of this machine: {command('train')} -m {override('resume', directory)}"
        )
    else:
        name = _begin(launcher, plan, directory, objective)
        write_text(begun, json.dumps({"tuning_job": name, "trials": plan.settings.trials}) + "\n")
        save_plan(plan, directory)
    _follow(launcher, name, directory)
    return _results(launcher, name, plan, objective, directory)


def _begin(launcher: Launcher, plan: Plan, directory: Path, objective: Objective) -> str:
    """Sends the tuning job, and returns its name."""
    if not plan.prepares_once:
        raise ConfigError(
            "The trials differ in backbone or features, and a tuning job gives all the same: search inside "
            "one job with hpo.one_job=true."
        )
    settings, config = launcher.settings, unmanaged(plan.first(directory))
    crossing = outgoing(config, [unmanaged(corner) for corner in plan.corners], list(plan.space.dimensions))
    name = job_name(settings.prefix, LONGEST_TUNING_JOB)
    task = Task(TRIAL, settings.checkpoint_seconds)

    def request(channels: Mapping[str, str], code: str) -> dict[str, Any]:
        job = launcher.job(name, crossing, task, channels, code, settings.trial_instance, 1)
        # Trials are short, and whether the service keeps their checkpoints apart is not documented.
        job = replace(job, checkpoints=None)
        return tuning_request(job, settings, plan.settings, plan.space, objective, metric_definitions())

    launcher.check("CreateHyperParameterTuningJob", request, [*crossing.channels(), FEATURES])
    channels = {**launcher.upload(crossing), FEATURES: _features(launcher, config)}
    sent = request(channels, launcher.storage.upload_code(launcher.project, []))
    log.info("tuning job %s: trials on %s, %d at a time", name, settings.trial_instance, plan.settings.parallel)
    launcher.create("CreateHyperParameterTuningJob", sent)
    return name


def _features(launcher: Launcher, config: TrainConfig) -> str:
    """Returns where in S3 the features of all trials are; they are computed once, by a job or on this machine."""
    crossing = outgoing(config)
    channels = launcher.upload(crossing)
    key = hashlib.sha256(f"{preparation_key(config)} {sorted(channels.items())}".encode()).hexdigest()
    place = launcher.storage.uri("prepared", f"{key}.json")
    if launcher.storage.exists(place):
        known = launcher.storage.read_json(place)["features"]
        if known.endswith("/") or launcher.storage.exists(known):
            log.info("features are in S3 already")
            return known
    if launcher.settings.features_instance is None:
        found = _computed_here(launcher, config)
    else:
        found = _computed_by_job(launcher, config, crossing, launcher.settings.features_instance)
    launcher.storage.write_json(place, {"features": found})
    return found


def _computed_here(launcher: Launcher, config: TrainConfig) -> str:
    """Computes features in a store of their own: what other runs keep in the usual one is nothing to the trials."""
    with tempfile.TemporaryDirectory(prefix="dogbreeds-features-") as store:
        prepare_features(replace(config, cache=replace(config.cache, dir=store)))
        return launcher.storage.upload_features(Path(store))


def _computed_by_job(launcher: Launcher, config: TrainConfig, crossing: Crossing, instance: str) -> str:
    task = Task(FEATURES_TASK, launcher.settings.checkpoint_seconds)
    described = launcher.run(crossing, task, config.debugger, instance, 1, extras=[])
    if described["TrainingJobStatus"] != "Completed":
        raise UserError("\n".join(["The features could not be computed.", *summary(described)]))
    return f"{described['OutputDataConfig']['S3OutputPath']}/{described['TrainingJobName']}/output/output.tar.gz"


def _follow(launcher: Launcher, name: str, directory: Path) -> None:
    """Says how a tuning job gets on, until it has ended."""
    told = ""
    with leaving(f"-m {override('resume', directory)}", launcher.session):
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
            time.sleep(launcher.session.between_looks)


def _status(described: Mapping[str, Any]) -> str:
    counters = described.get("TrainingJobStatusCounters", {})
    counts = ", ".join(f"{count} {name}" for name, count in counters.items() if count)
    best = described.get("BestTrainingJob", {}).get("FinalHyperParameterTuningJobObjectiveMetric")
    reached = f"; best {best['MetricName']} {best['Value']:.4f}" if best else ""
    return f"{described['HyperParameterTuningJobStatus']}{f' ({counts})' if counts else ''}{reached}"


def _results(launcher: Launcher, name: str, plan: Plan, objective: Objective, directory: Path) -> Leaderboard:
    """Writes what a search on this machine would have written."""
    trials = trials_of(launcher.session, name)
    found = [entry(number, trial, plan.space, objective) for number, trial in enumerate(trials)]
    board = Leaderboard.of(objective, found)
    board.save(directory / LEADERBOARD)
    if board.best is None:
        failed = next((entry for entry in board.entries if entry.message), None)
        reason = f" Trial {failed.number}: {failed.message}" if failed else ""
        raise UserError(f"No trial of {name} came to an end ({board.summary()}).{reason}")
    for number, trial in enumerate(trials):
        launcher.fetch(trial.job, directory / str(number))
    save_best(directory / BEST, board.best, objective, plan.overrides(board.best.values))
    remember(name, directory / BEST)
    build_search_page(directory, board, plan.space, debug=plan.debug)
    return board

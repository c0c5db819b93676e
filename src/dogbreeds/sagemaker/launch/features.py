"""The features of a tuning job's trials: computed once, by a job or on this machine."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from dataclasses import replace
from pathlib import Path

from dogbreeds.errors import UserError
from dogbreeds.sagemaker.launch.follow import summary
from dogbreeds.sagemaker.launch.launcher import JobPlan, Launcher
from dogbreeds.sagemaker.protocol.inputs import JobInputs, job_inputs
from dogbreeds.sagemaker.protocol.task import FEATURES, Task
from dogbreeds.schema import TrainConfig
from dogbreeds.training.features_only import prepare_features
from dogbreeds.training.preparation import preparation_key

log = logging.getLogger(__name__)


def trial_features(launcher: Launcher, config: TrainConfig) -> str:
    """Returns the URI of the features of all trials, computing them where S3 lacks them."""
    inputs = job_inputs(config)
    channels = launcher.upload(inputs)
    # Each search has a copy of `data.exclude` of its own, whose content is in its channel.
    needs = preparation_key(replace(config, data=replace(config.data, exclude=None)))
    key = hashlib.sha256(f"{needs} {sorted(channels.items())}".encode()).hexdigest()
    place = launcher.storage.uri("prepared", f"{key}.json")
    if launcher.storage.exists(place):
        known = launcher.storage.read_json(place)["features"]
        if known.endswith("/") or launcher.storage.exists(known):
            log.info("features are already in S3")
            return known
    if launcher.settings.features_instance is None:
        found = _computed_here(launcher, config)
    else:
        found = _computed_by_job(launcher, config, inputs, launcher.settings.features_instance)
    launcher.storage.write_json(place, {"features": found})
    return found


def _computed_here(launcher: Launcher, config: TrainConfig) -> str:
    """Computes features in a separate store, so that only these are uploaded."""
    with tempfile.TemporaryDirectory(prefix="dogbreeds-features-") as store:
        prepare_features(replace(config, cache=replace(config.cache, dir=store)))
        return launcher.storage.upload_features(Path(store))


def _computed_by_job(launcher: Launcher, config: TrainConfig, inputs: JobInputs, instance: str) -> str:
    task = Task(FEATURES, launcher.settings.checkpoint_seconds)
    described = launcher.run(JobPlan(launcher.new_name(), inputs, task, config.debugger, instance))
    if described["TrainingJobStatus"] != "Completed":
        raise UserError("\n".join(["The features could not be computed.", *summary(described)]))
    return f"{described['OutputDataConfig']['S3OutputPath']}/{described['TrainingJobName']}/output/output.tar.gz"

"""The features of a tuning job's trials: computed once, by a job or on this machine."""

import hashlib
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.sagemaker.launch.job_handle import JobHandle, summary
from dogbreeds.sagemaker.launch.launcher import JobPlan, Launcher
from dogbreeds.sagemaker.protocol.hyperparameters import FEATURES, Task
from dogbreeds.sagemaker.protocol.inputs import JobInputs, job_inputs
from dogbreeds.schema import TrainConfig
from dogbreeds.training.features_only import prepare_features
from dogbreeds.training.preparation import preparation_key

log = logging.getLogger(__name__)


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

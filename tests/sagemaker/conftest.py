"""Composed settings of a launch, and jobs as the launcher makes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import OmegaConf

from dogbreeds.command_schemas import LaunchCommandConfig
from dogbreeds.sagemaker.requests.images import training_image
from dogbreeds.sagemaker.requests.job import Job
from dogbreeds.schema import SagemakerConfig
from tests import conftest

Launch = Callable[..., LaunchCommandConfig]
MakeJob = Callable[[SagemakerConfig, str], Job]


@pytest.fixture
def launch() -> Launch:
    """Composes what launch_sagemaker.py reads, in a region."""

    def composed(*overrides: str) -> LaunchCommandConfig:
        found = conftest.composed("launch", ["sagemaker.region=us-east-1", "run_dir=run", *overrides])
        config = OmegaConf.to_object(found)
        assert isinstance(config, LaunchCommandConfig)
        return config

    return composed


@pytest.fixture
def make_job() -> MakeJob:
    """Makes a job on some instance, with checkpoints."""

    def made(sagemaker: SagemakerConfig, instance: str) -> Job:
        return Job(
            name="dogbreeds-20261121-140359-ab12",
            hyperparameters={"lr": "0.01", "batch_size": "256", "epochs": "7", "seed": "3"},
            channels={"photos": "s3://bucket/dogbreeds/photos/0123/"},
            code="s3://bucket/dogbreeds/code/4567/sourcedir.tar.gz",
            output="s3://bucket/dogbreeds/jobs",
            checkpoints="s3://bucket/dogbreeds/jobs/dogbreeds-20261121-140359-ab12/checkpoints/",
            image=training_image(sagemaker, instance),
            role="arn:aws:iam::123456789012:role/dogbreeds",
            instance=instance,
            instances=1,
        )

    return made

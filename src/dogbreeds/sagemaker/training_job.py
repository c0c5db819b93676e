"""The request of a training job, made of the config and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dogbreeds.sagemaker.requests.debugger import debugger_members
from dogbreeds.sagemaker.requests.images import region_of
from dogbreeds.sagemaker.requests.job import Job, Request, definition, script_mode, tags
from dogbreeds.schema import DebuggerConfig, SagemakerConfig


def training_request(
    job: Job,
    sagemaker: SagemakerConfig,
    debugger: DebuggerConfig,
    metric_definitions: Sequence[Mapping[str, str]],
) -> Request:
    """Returns what `create_training_job` is called with.

    Args:
        job: What is run.
        sagemaker: On what terms; its region must be known.
        debugger: What is asked of SageMaker Debugger, if anything.
        metric_definitions: Names of numbers, each with the regular expression that finds it in a line of the log.

    Raises:
        ConfigError: The settings contradict each other; the message names them.
    """
    return {
        "TrainingJobName": job.name,
        "HyperParameters": {**job.hyperparameters, **script_mode(job, sagemaker)},
        **definition(job, sagemaker, metric_definitions),
        **debugger_members(debugger, job.output, region_of(sagemaker)),
        **tags(sagemaker),
    }

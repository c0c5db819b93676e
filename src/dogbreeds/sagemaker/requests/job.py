"""The request of a training job, and what it shares with that of a tuning job."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from omegaconf import OmegaConf

from dogbreeds.errors import ConfigError
from dogbreeds.files import yaml_beside
from dogbreeds.overrides import literal
from dogbreeds.sagemaker.protocol.metrics import metric_definitions
from dogbreeds.sagemaker.requests.images import rules_image
from dogbreeds.schema import DebuggerConfig, SagemakerConfig
from local_sagemaker.rules.instances import has_local_disks

#: The script of the code archive that AWS's toolkit starts.
PROGRAM = "src/dogbreeds/sagemaker/job/entry_point.py"
#: The channel that brings the code where a job has no network to fetch it.
CODE_CHANNEL = "code"

_REQUESTS = yaml_beside(__file__, "requests.yaml")
_ARCHIVE = f"/opt/ml/input/data/{CODE_CHANNEL}/sourcedir.tar.gz"

Request = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What one job is: what is run, on what, from where and to where.

    `name` may be that of a tuning job. `hyperparameters` are encoded for the wire, without those of AWS's toolkit.
    The service puts what jobs make below the S3 folder `output`, each under its own name, and copies the checkpoints
    to `checkpoints`; None keeps none. `role` is an ARN.
    """

    name: str
    hyperparameters: Mapping[str, str]
    channels: Mapping[str, str]
    code: str
    output: str
    checkpoints: str | None
    image: str
    role: str
    instance: str
    instances: int


def definition(job: Job, sagemaker: SagemakerConfig) -> Request:
    """Returns the members that a training job and the definition of a tuning job's trials share."""
    if sagemaker.isolated and sagemaker.image is None:
        said = "sagemaker.isolated=true: without a network a job cannot install what AWS's images lack."
        raise ConfigError(f"{said} Name an image of your own that has it (sagemaker.image).")
    channels = dict(job.channels)
    if sagemaker.isolated:
        channels[CODE_CHANNEL] = job.code
    # It counts from the start of the job: the wait for machines and the run together.
    wait = _seconds(sagemaker.hours + sagemaker.wait_hours) if sagemaker.spot else None
    request = filled(
        "definition",
        job=asdict(job),
        sagemaker=asdict(sagemaker),
        channels=[filled("channel", name=name, uri=uri) for name, uri in sorted(channels.items())],
        volume_key=None if has_local_disks(job.instance) else sagemaker.kms_key,
        seconds=_seconds(sagemaker.hours),
        wait=wait,
        retries=sagemaker.retries or None,
    )
    request["AlgorithmSpecification"]["MetricDefinitions"] = metric_definitions()
    return request | vpc(sagemaker)


def filled(name: str, /, **values: object) -> Request:
    """Returns the request, or the part of one, that requests.yaml has under a name, with values put in."""
    template = OmegaConf.create({**literal(values), "request": _REQUESTS[name]})
    return present(cast(Request, OmegaConf.to_container(template.request, resolve=True)))


def present(members: Mapping[str, Any]) -> Request:
    """Returns the members of a request that have a value: not None, and not empty."""
    inner = {name: present(value) if isinstance(value, Mapping) else value for name, value in members.items()}
    return {name: value for name, value in inner.items() if value not in (None, {}, [])}


def script_mode(job: Job, sagemaker: SagemakerConfig) -> dict[str, str]:
    """Returns the hyperparameters that tell AWS's toolkit what to start; it reads JSON."""
    values = {
        "sagemaker_program": PROGRAM,
        "sagemaker_submit_directory": _ARCHIVE if sagemaker.isolated else job.code,
        "sagemaker_region": str(sagemaker.region),
        "sagemaker_container_log_level": logging.INFO,
    }
    return {name: json.dumps(value) for name, value in values.items()}


def vpc(sagemaker: SagemakerConfig) -> Request:
    """Returns the member `VpcConfig`, where there is a network."""
    if not (sagemaker.subnets or sagemaker.security_groups):
        return {}
    return {"VpcConfig": {"SecurityGroupIds": [*sagemaker.security_groups], "Subnets": [*sagemaker.subnets]}}


def tag_list(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in values.items()]


def _seconds(hours: float) -> int:
    return math.ceil(hours * 3600)


def training_request(job: Job, sagemaker: SagemakerConfig, debugger: DebuggerConfig) -> Request:
    """Returns what `create_training_job` is called with; the region of the settings must be known.

    Raises:
        ConfigError: The settings contradict each other; the message names them.
    """
    return {
        "TrainingJobName": job.name,
        "HyperParameters": {**job.hyperparameters, **script_mode(job, sagemaker)},
        **definition(job, sagemaker),
        **_debugger_members(debugger, job.output, str(sagemaker.region)),
        **present({"Tags": tag_list(sagemaker.tags)}),
    }


def _debugger_members(debugger: DebuggerConfig, output: str, region: str) -> Request:
    """Returns the members of a training job's request that concern Debugger and its profiler.

    Without `debugger.managed` there is one, which switches the profiler off: jobs whose request says nothing may be
    profiled, which the SDK of AWS has always asked for unless told otherwise, and this project measures the machine
    itself. Below the S3 folder `output` the service puts tensors, measurements and findings, by the job's name.

    Raises:
        ConfigError: There is no Debugger in that region.
    """
    managed = debugger.managed
    if managed is None:
        return {"ProfilerConfig": {"DisableProfiler": True}}
    image = rules_image(region)
    collections = [
        {"CollectionName": name, "CollectionParameters": _texts(parameters)}
        for name, parameters in managed.collections.items()
        if parameters is not None
    ]
    rules, of_profiler = (_rule_configurations(one, image) for one in (managed.rules, managed.profiler_rules))
    made = {"collections": collections, "rules": rules, "profiler_rules": of_profiler}
    return filled("debugger", output=output, managed=asdict(managed), **made)


def _rule_configurations(rules: Mapping[str, Any], image: str) -> list[Request]:
    """One configuration for each rule that is not switched off by null."""
    given = {name: parameters for name, parameters in rules.items() if parameters is not None}
    chosen = {name: {"rule_to_invoke": name, **_texts(parameters)} for name, parameters in given.items()}
    evaluated = {"RuleEvaluatorImage": image}
    return [{"RuleConfigurationName": name, **evaluated, "RuleParameters": one} for name, one in chosen.items()]


def _texts(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as the service takes them; a null leaves one to the service's own default."""
    return {name: str(value) for name, value in parameters.items() if value is not None}

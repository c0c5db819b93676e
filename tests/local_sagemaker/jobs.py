"""Requests, scripts and waiting, for the tests of the local."""

from __future__ import annotations

import io
import tarfile
import time
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError
from botocore.session import Session
from botocore.validate import ParamValidator

BUCKET = "photos-and-jobs"
ROLE = "arn:aws:iam::123456789012:role/local-sagemaker"
#: Seconds after which a test gives up on a job or a process, however slow the machine.
PATIENCE_SECONDS = 180


def upload_code(s3: Any, script: str, bucket: str = BUCKET, **files: str) -> str:
    """Puts an archive with train.py, and other files named by stem, into S3, and returns its URI."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in {"train.py": script, **{f"{stem}.txt": text for stem, text in files.items()}}.items():
            content = text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    key = f"code/{abs(hash((script, *files.items())))}/sourcedir.tar.gz"
    s3.put_object(Bucket=bucket, Key=key, Body=buffer.getvalue())
    return f"s3://{bucket}/{key}"


def training_job(name: str, code: str, **members: Any) -> dict[str, Any]:
    """Returns the request of a training job that runs train.py of an archive."""
    hyperparameters = members.pop("HyperParameters", {})
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {
            "TrainingImage": "image",
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "val/loss", "Regex": "val/loss=([0-9.e+-]+|nan)"}],
        },
        "HyperParameters": {"sagemaker_program": "train.py", "sagemaker_submit_directory": code, **hyperparameters},
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/jobs"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        **members,
    }


def tuning_job(name: str, code: str, config: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Returns the request of a tuning job over train.py of an archive."""
    definition = training_job("unused", code)
    del definition["TrainingJobName"]
    definition["StaticHyperParameters"] = definition.pop("HyperParameters")
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "val/loss"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "lr", "MinValue": "0.1", "MaxValue": "1"}]},
            **config,
        },
        "TrainingJobDefinition": {**definition, **members},
    }


def wait_for(sagemaker: Any, name: str, *, secondary: str | None = None) -> dict[str, Any]:
    """Returns a training job's description once it has ended, or once it has got to a secondary status."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName=name)
        if found["SecondaryStatus"] == secondary or found["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{name} is still {found['SecondaryStatus']}")


def wait_for_tuning(sagemaker: Any, name: str) -> dict[str, Any]:
    """Returns a tuning job's description once it has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found: dict[str, Any] = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        if found["HyperParameterTuningJobStatus"] in ("Completed", "Failed", "Stopped"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{name} is still {found['HyperParameterTuningJobStatus']}")


def log_lines(logs: Any, name: str) -> list[str]:
    """Returns what a job has written."""
    group = "/aws/sagemaker/TrainingJobs"
    try:
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        # No job has written anything yet.
        return []
    return [
        event["message"]
        for stream in streams
        for event in logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True)[
            "events"
        ]
    ]


def refusal(call: Any, **request: Any) -> tuple[str, str]:
    """Returns code and message of the error that a call ends with."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def answer_problems(operation: str, answer: dict[str, Any]) -> str:
    """Returns what AWS's service model has against an answer of SageMaker; empty where it has nothing."""
    shape = Session().get_service_model("sagemaker").operation_model(operation).output_shape
    assert shape is not None
    return str(ParamValidator().validate(answer, shape).generate_report())


def botocore_problems(operation: str, request: dict[str, Any], service: str = "sagemaker") -> str:
    """Returns why botocore would not send a request; empty where it would."""
    shape = Session().get_service_model(service).operation_model(operation).input_shape
    assert shape is not None
    return str(ParamValidator().validate(request, shape).generate_report())


def script_pid(logs: Any, name: str) -> int:
    """Waits until a job's script says that it is waiting, and returns its process id, which it says too."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        said = [line for line in log_lines(logs, name) if line.startswith("waiting")]
        if said:
            return int(said[0].split()[1])
        time.sleep(0.05)
    raise AssertionError(f"{name} never started")


def is_gone(pid: int) -> bool:
    """Tells whether a process has ended, or does so in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False

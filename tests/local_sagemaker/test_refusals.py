from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from botocore.config import Config

from local_sagemaker import LocalSageMaker
from tests.local_sagemaker.conftest import NO_FAULTS
from tests.local_sagemaker.jobs import BUCKET, refusal, training_job, tuning_job

pytestmark = pytest.mark.slow

CODE = f"s3://{BUCKET}/code/sourcedir.tar.gz"
RANGE = {"Name": "lr", "MinValue": "0.1", "MaxValue": "1"}
HOOK = {"DebugHookConfig": {"S3OutputPath": f"s3://{BUCKET}/jobs"}}


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSageMaker]:
    """A service for requests that leave nothing behind."""
    with LocalSageMaker(tmp_path_factory.mktemp("refusing"), NO_FAULTS) as local:
        local.client("s3").create_bucket(Bucket=BUCKET)
        yield local


@pytest.fixture(scope="module")
def unchecked(refusing: LocalSageMaker) -> Any:
    """A client that sends what its own checks would keep back."""
    return refusing.session().client("sagemaker", config=Config(parameter_validation=False))


def post(local: LocalSageMaker, operation: str, body: Any) -> tuple[str, str]:
    """Sends what boto3 cannot send, and returns code and message of the refusal."""
    scope = f"Credential={local.key}/20260101/us-east-1/sagemaker/aws4_request"
    headers = {"X-Amz-Target": f"SageMaker.{operation}", "Authorization": f"AWS4-HMAC-SHA256 {scope}, Signature=0"}
    answer = requests.post(local.client("sts").meta.endpoint_url, json=body, headers=headers, timeout=30)
    assert answer.status_code == 400
    return answer.json()["__type"], answer.json()["message"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"TrainingJobName": "bad_name!"}, "TrainingJobName' must match"),
        ({"TrainingJobName": "a" * 64}, "at most 63 characters, got 64"),
        ({"ResourceConfig": {"InstanceType": "ml.bogus", "InstanceCount": 1, "VolumeSizeInGB": 1}}, "InstanceType"),
        ({"ResourceConfig": {"InstanceCount": 1, "VolumeSizeInGB": 1}}, "ResourceConfig.InstanceType is missing"),
        ({"HyperParameters": {str(number): "" for number in range(101)}}, "at most 100 entries, got 101"),
        ({"EnableManagedSpotTraining": True}, "MaxWaitTimeInSeconds is missing"),
        (
            {
                "EnableManagedSpotTraining": True,
                "StoppingCondition": {"MaxRuntimeInSeconds": 20, "MaxWaitTimeInSeconds": 10},
            },
            r"MaxWaitTimeInSeconds must be at least MaxRuntimeInSeconds \(20 s\), got 10 s",
        ),
        ({"StoppingCondition": {"MaxWaitTimeInSeconds": 10}}, r"MaxWaitTimeInSeconds is only for Spot jobs"),
        ({"RoleArn": "arn:aws:iam::123456789012:role/nobody"}, "Could not assume role"),
        ({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}, "'a' appears 2 times"),
        (
            {"ProfilerConfig": {"S3OutputPath": "s3://a/b", "ProfilingIntervalInMilliseconds": 300}},
            "ProfilingIntervalInMilliseconds must be one of",
        ),
        (
            {"AlgorithmSpecification": {"TrainingImage": "i", "TrainingInputMode": "Pipe"}},
            "TrainingInputMode other than File is not emulated",
        ),
        (
            {
                "InputDataConfig": [
                    {
                        "ChannelName": "photos",
                        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/none"}},
                    }
                ]
            },
            "No S3 objects found under S3 URL",
        ),
    ],
)
def test_training_jobs_that_cannot_run_are_refused(unchecked: Any, members: dict[str, Any], message: str) -> None:
    code, said = refusal(unchecked.create_training_job, **{**training_job("job", CODE), **members})
    assert code == "ValidationException"
    assert re.search(message, said), said
    assert refusal(unchecked.describe_training_job, TrainingJobName="job")[1] == "Requested resource not found."


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"Strategy": "Hyperband", "TrainingJobEarlyStoppingType": "Auto"}, "must be Off with Hyperband"),
        (
            {"ResourceLimits": {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 2}},
            r"MaxParallelTrainingJobs must be at most the number of trials \(1\), got 2",
        ),
        ({"ResourceLimits": {"MaxParallelTrainingJobs": 1}}, "MaxNumberOfTrainingJobs is missing"),
        (
            {"HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"}},
            "must be one of val/loss, got loss",
        ),
        (
            {
                "ParameterRanges": {
                    "CategoricalParameterRanges": [{"Name": "n", "Values": [str(value) for value in range(31)]}]
                }
            },
            "at most 30 elements, got 31",
        ),
        ({"Strategy": "Grid"}, "only categorical ranges for Grid"),
        ({"ParameterRanges": {"ContinuousParameterRanges": [RANGE, RANGE]}}, "'lr' appears 2 times"),
        (
            {"ParameterRanges": {"ContinuousParameterRanges": [{**RANGE, "ScalingType": "ReverseLogarithmic"}]}},
            "ScalingType other than Auto or Linear or Logarithmic is not emulated",
        ),
        (
            {"TuningJobCompletionCriteria": {"TargetObjectiveMetricValue": 5.0}},
            "HyperParameterTuningJobConfig.TuningJobCompletionCriteria is not emulated",
        ),
        (
            {"ParameterRanges": {"ContinuousParameterRanges": [{**RANGE, "Name": "sagemaker_program"}]}},
            "must not have sagemaker_program, which StaticHyperParameters fixes",
        ),
    ],
)
def test_tuning_jobs_that_cannot_run_are_refused(unchecked: Any, config: dict[str, Any], message: str) -> None:
    code, said = refusal(unchecked.create_hyper_parameter_tuning_job, **tuning_job("search", CODE, config))
    assert code == "ValidationException"
    assert re.search(message, said), said
    describe = unchecked.describe_hyper_parameter_tuning_job
    assert refusal(describe, HyperParameterTuningJobName="search")[1] == "Requested resource not found."


def test_names_of_tuning_jobs_are_short(unchecked: Any) -> None:
    request = tuning_job("s" * 33, CODE, {})
    assert "at most 32 characters, got 33" in refusal(unchecked.create_hyper_parameter_tuning_job, **request)[1]


def test_members_that_the_service_does_not_know_are_refused(refusing: LocalSageMaker) -> None:
    code, said = post(refusing, "CreateTrainingJob", training_job("job", CODE, Flavour="vanilla"))
    assert code == "ValidationException" and "'Flavour' is not known" in said
    _, said = post(refusing, "CreateHyperParameterTuningJob", tuning_job("search", CODE, {}, **HOOK))
    assert "'TrainingJobDefinition.DebugHookConfig' is not known" in said
    assert post(refusing, "CreateTrainingJobs", {})[0] == "UnknownOperationException"
    assert post(refusing, "DescribeTrainingJob", ["a list"])[0] == "ValidationException"


def test_what_does_not_exist_is_said_to(refusing: LocalSageMaker) -> None:
    sagemaker = refusing.client("sagemaker")
    expected = ("ValidationException", "Requested resource not found.")
    assert refusal(sagemaker.describe_training_job, TrainingJobName="none") == expected
    assert refusal(sagemaker.stop_training_job, TrainingJobName="none") == expected
    describe = sagemaker.describe_hyper_parameter_tuning_job
    assert refusal(describe, HyperParameterTuningJobName="none") == expected
    streams = refusing.client("logs").describe_log_streams
    assert refusal(streams, logGroupName="/aws/sagemaker/TrainingJobs")[0] == "ResourceNotFoundException"


def test_what_is_not_rehearsed_is_said_to(refusing: LocalSageMaker) -> None:
    code, said = refusal(refusing.client("sagemaker").list_domains)
    assert code == "UnknownOperationException" and "ListDomains is not emulated" in said
    code, said = refusal(refusing.client("dynamodb").list_tables)
    assert code == "UnknownOperationException" and "no service dynamodb" in said

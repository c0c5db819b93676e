from __future__ import annotations

import re
from typing import Any

import pytest
from botocore.session import Session

from local_sagemaker.rules.service_model import Problem, problems, readable


def request(**members: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": "dogbreeds-1",
        "RoleArn": "arn:aws:iam::123456789012:role/dogbreeds",
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/jobs"},
        **members,
    }


def paths(**members: Any) -> list[str]:
    return [problem.path for problem in problems("CreateTrainingJob", request(**members))]


def test_a_good_request_has_no_problems() -> None:
    good = request(HyperParameters={"model.backbone": "resnet18"}, Tags=[{"Key": "für", "Value": "Größe 1/2 @home"}])
    assert problems("CreateTrainingJob", good) == []


def test_each_problem_names_its_place() -> None:
    assert paths(TrainingJobName="bad_name!") == ["TrainingJobName"]
    assert paths(TrainingJobName="a" * 64) == ["TrainingJobName"]
    assert paths(Flavour="vanilla") == ["Flavour"]
    assert paths(HyperParameters={"lr": 0.1}) == ["HyperParameters[lr]"]
    assert paths(HyperParameters={"x" * 257: ""}) == [f"HyperParameters[{'x' * 257}]"]
    assert paths(HyperParameters={str(number): "" for number in range(101)}) == ["HyperParameters"]
    assert paths(EnableManagedSpotTraining="yes") == ["EnableManagedSpotTraining"]
    assert paths(OutputDataConfig={}) == ["OutputDataConfig.S3OutputPath"]
    assert paths(StoppingCondition={"MaxRuntimeInSeconds": True}) == ["StoppingCondition.MaxRuntimeInSeconds"]
    assert paths(StoppingCondition={"MaxRuntimeInSeconds": 0}) == ["StoppingCondition.MaxRuntimeInSeconds"]
    assert paths(RetryStrategy={"MaximumRetryAttempts": 31}) == ["RetryStrategy.MaximumRetryAttempts"]
    assert paths(Tags=[{"Key": "a", "Value": "b"}, {"Key": "a;"}]) == ["Tags[1].Value", "Tags[1].Key"]


def test_what_is_missing_is_named() -> None:
    assert problems("CreateTrainingJob", {})[0] == Problem("TrainingJobName", "is missing")


def test_values_outside_an_enum_are_told_what_there_is() -> None:
    (problem,) = problems("CreateTrainingJob", request(AlgorithmSpecification={"TrainingInputMode": "Flie"}))
    assert problem.path == "AlgorithmSpecification.TrainingInputMode"
    assert "Pipe, File, FastFile" in problem.message


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(KeyError, match="CreateTrainingJobs"):
        problems("CreateTrainingJobs", {})


def test_every_pattern_of_the_service_can_be_read() -> None:
    model = Session().get_service_model("sagemaker")
    patterns = {model.shape_for(name).metadata.get("pattern") for name in model.shape_names} - {None}
    assert len(patterns) > 100
    assert all(isinstance(readable(pattern), re.Pattern) for pattern in patterns)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "Größe 1/2 @home", "a;b"),
        (r"([\p{L}\p{Z}\p{N}_.:\/=+\-@]*)${1,128}", "owner", "a;b"),
        (r"[\p{L}\p{M}\p{S}\p{N}\p{P}]+", "a-b!", "a b"),
        (r"arn:[\p{Alnum}\-]+:lambda:.*", "arn:aws-cn:lambda:x", "arn:a_b:lambda:x"),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", "dog \U0001f436", "line\nbreak"),
    ],
)
def test_translated_patterns_mean_the_same(pattern: str, good: str, bad: str) -> None:
    assert readable(pattern).fullmatch(good)
    assert not readable(pattern).fullmatch(bad)

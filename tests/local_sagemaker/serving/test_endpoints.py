"""Rehearsed endpoints: created, asked, updated without a gap, rolled back, kept from one command to the next."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local_sagemaker import LocalSageMaker
from tests.local_sagemaker.conftest import NO_FAULTS
from tests.local_sagemaker.jobs import BUCKET, PATIENCE_SECONDS, answer_problems
from tests.local_sagemaker.serving.fakes import FakeContainer, archive, config, model, prepared, settled

pytestmark = pytest.mark.slow


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalSageMaker]:
    FakeContainer.made.clear()
    for event in (FakeContainer.release, FakeContainer.asked, FakeContainer.answer):
        event.clear()
    with LocalSageMaker(tmp_path / "rehearsal", NO_FAULTS, FakeContainer) as opened:
        opened.client("s3").create_bucket(Bucket=BUCKET)
        yield opened
    assert all(container.closed for container in FakeContainer.made)


@pytest.fixture
def client(local: LocalSageMaker) -> Callable[[str], Any]:
    session, config = local.session(), Config(retries={"total_max_attempts": 1})
    return cache(lambda name: session.client(name, config=config))


def code_of(call: Callable[..., Any], **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**members)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def ask(client: Callable[[str], Any], body: bytes = b"photo", **members: Any) -> dict[str, Any]:
    answer = client("sagemaker-runtime").invoke_endpoint(
        EndpointName="dogs", Body=body, ContentType="image/jpeg", **members
    )
    found: dict[str, Any] = json.loads(answer["Body"].read())
    return found


def in_service(client: Callable[[str], Any], content: str = "first", **members: Any) -> dict[str, Any]:
    prepared(client, content, content, **members)
    client("sagemaker").create_endpoint(
        EndpointName="dogs", EndpointConfigName=content, Tags=[{"Key": "team", "Value": "dogs"}]
    )
    return settled(client("sagemaker"), "dogs")


def test_an_endpoint_from_its_creation_to_its_end(client: Callable[[str], Any]) -> None:
    sagemaker = client("sagemaker")
    prepared(client, "slow", "slow")
    created = sagemaker.create_endpoint(EndpointName="dogs", EndpointConfigName="slow")
    assert created["EndpointArn"].endswith(":endpoint/dogs")
    assert sagemaker.describe_endpoint(EndpointName="dogs")["EndpointStatus"] == "Creating"
    assert code_of(sagemaker.delete_endpoint, EndpointName="dogs")[1] == 'Cannot update in-progress endpoint "dogs".'
    assert code_of(client("sagemaker-runtime").invoke_endpoint, EndpointName="dogs", Body=b"photo") == (
        "ValidationError",
        "Endpoint dogs of account 123456789012 not found.",
    )
    FakeContainer.release.set()
    described = settled(sagemaker, "dogs")
    assert described["EndpointStatus"] == "InService"
    answered = {name: value for name, value in described.items() if name != "ResponseMetadata"}
    assert answer_problems("DescribeEndpoint", answered) == ""
    variant = described["ProductionVariants"][0]
    assert (variant["VariantName"], variant["CurrentInstanceCount"]) == ("AllTraffic", 1)
    assert ask(client)["served"] == "slow"
    assert [one["EndpointName"] for one in sagemaker.list_endpoints()["Endpoints"]] == ["dogs"]
    # What it is made of cannot go before it.
    assert "an endpoint uses it" in code_of(sagemaker.delete_endpoint_config, EndpointConfigName="slow")[1]
    assert "an endpoint serves it" in code_of(sagemaker.delete_model, ModelName="slow")[1]
    sagemaker.delete_endpoint(EndpointName="dogs")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while sagemaker.list_endpoints()["Endpoints"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert [container.closed for container in FakeContainer.made] == [True]
    assert 'Could not find endpoint "dogs"' in code_of(sagemaker.describe_endpoint, EndpointName="dogs")[1]
    sagemaker.delete_endpoint_config(EndpointConfigName="slow")
    sagemaker.delete_model(ModelName="slow")
    assert sagemaker.list_models()["Models"] == sagemaker.list_endpoint_configs()["EndpointConfigs"] == []


def test_a_container_that_does_not_come_up(client: Callable[[str], Any]) -> None:
    described = in_service(client, "dies")
    assert described["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check. The container ended with 1." in described["FailureReason"]
    group = "/aws/sagemaker/Endpoints/dogs"
    (stream,) = client("logs").describe_log_streams(logGroupName=group, orderBy="LastEventTime")["logStreams"]
    assert stream["logStreamName"].startswith("AllTraffic/i-")
    events = client("logs").get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
    assert [event["message"] for event in events] == ["serving dies", "ImportError: no module named deployment"]
    prepared(client, "second", "second")
    update = client("sagemaker").update_endpoint
    assert "delete it" in code_of(update, EndpointName="dogs", EndpointConfigName="second")[1]


def test_a_container_that_takes_too_long(client: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_sagemaker.serving.served_variant.STARTUP_SECONDS", 0.2)
    described = in_service(client, "slow")
    assert described["EndpointStatus"] == "Failed"
    assert "It had 0.2 s" in described["FailureReason"]


def test_an_update_leaves_no_gap(client: Callable[[str], Any]) -> None:
    in_service(client)
    prepared(client, "slow", "slow")
    client("sagemaker").update_endpoint(EndpointName="dogs", EndpointConfigName="slow")
    described = client("sagemaker").describe_endpoint(EndpointName="dogs")
    assert described["EndpointStatus"] == "Updating"
    assert described["PendingDeploymentSummary"]["EndpointConfigName"] == "slow"
    assert ask(client)["served"] == "first"
    FakeContainer.release.set()
    assert settled(client("sagemaker"), "dogs")["EndpointConfigName"] == "slow"
    assert ask(client)["served"] == "slow"


def test_a_failing_update_keeps_what_was(client: Callable[[str], Any]) -> None:
    in_service(client)
    prepared(client, "dies", "dies")
    client("sagemaker").update_endpoint(EndpointName="dogs", EndpointConfigName="dies")
    described = settled(client("sagemaker"), "dogs")
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "first")
    assert "ping health check" in described["FailureReason"]
    assert ask(client)["served"] == "first"
    client("sagemaker").delete_endpoint_config(EndpointConfigName="dies")


def test_what_the_container_refuses(client: Callable[[str], Any]) -> None:
    in_service(client)
    with pytest.raises(ClientError) as caught:
        ask(client, b"bad")
    response = caught.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 422
    assert json.loads(response["OriginalMessage"])["error"]["code"] == "unreadable_image"


def test_limits_of_invocations(client: Callable[[str], Any]) -> None:
    serverless = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1}}
    in_service(client, variant=serverless)
    with pytest.raises(ClientError, match="at most 4194304 bytes"):
        ask(client, b"p" * 4_194_305)
    asking = threading.Thread(target=lambda: ask(client, b"wait"))
    asking.start()
    assert FakeContainer.asked.wait(60)
    with pytest.raises(ClientError, match="ThrottlingException"):
        ask(client)
    FakeContainer.answer.set()
    asking.join()
    with pytest.raises(ClientError, match="call InvokeEndpoint"):
        client("sagemaker-runtime").invoke_endpoint_async(EndpointName="dogs", InputLocation=f"s3://{BUCKET}/photo")


def test_asked_by_objects(client: Callable[[str], Any]) -> None:
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "S3FailurePath": f"s3://{BUCKET}/failed"}
    in_service(client, AsyncInferenceConfig={"OutputConfig": output})
    s3, runtime = client("s3"), client("sagemaker-runtime")
    with pytest.raises(ClientError, match="call InvokeEndpointAsync"):
        ask(client)
    for photo, folder in (("photo", "out"), ("bad", "failed"), (None, "failed")):
        if photo is not None:
            s3.put_object(Bucket=BUCKET, Key=f"in/{photo}", Body=photo.encode())
        answer = runtime.invoke_endpoint_async(EndpointName="dogs", InputLocation=f"s3://{BUCKET}/in/{photo}")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
        assert answer["InferenceId"]
        place = {"out": answer["OutputLocation"], "failed": answer["FailureLocation"]}[folder]
        key = place.removeprefix(f"s3://{BUCKET}/")
        assert key.startswith(f"{folder}/")
        s3.get_waiter("object_exists").wait(Bucket=BUCKET, Key=key, WaiterConfig={"Delay": 1})
        content = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()
        assert {"photo": '"breed": "Pug"', "bad": "cannot be read", None: "no object"}[photo] in content


def test_what_is_captured(client: Callable[[str], Any]) -> None:
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{BUCKET}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
    }
    described = in_service(client, DataCaptureConfig=capture)
    assert described["DataCaptureConfig"]["EnableCapture"]
    ask(client)
    (found,) = client("s3").list_objects_v2(Bucket=BUCKET, Prefix="captured/dogs/AllTraffic/20")["Contents"]
    line = json.loads(client("s3").get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read())
    assert line["captureData"]["endpointInput"] == {
        "observedContentType": "image/jpeg",
        "mode": "INPUT",
        "data": "cGhvdG8=",
        "encoding": "BASE64",
    }
    output = line["captureData"]["endpointOutput"]
    assert (json.loads(output["data"])["breed"], output["encoding"]) == ("Pug", "JSON")


def test_scaling_is_kept_and_judged(client: Callable[[str], Any]) -> None:
    in_service(client)
    scaling = client("application-autoscaling")
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/dogs/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    policy = {
        **target,
        "PolicyName": "requests",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": 70.0,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        },
    }
    assert code_of(scaling.put_scaling_policy, **policy)[0] == "ObjectNotFoundException"
    wrong = {**target, "MinCapacity": 3, "MaxCapacity": 2}
    assert "MaxCapacity must be at least 3, got 2" in code_of(scaling.register_scalable_target, **wrong)[1]
    nobody = {**target, "ResourceId": "endpoint/cats/variant/AllTraffic", "MinCapacity": 1, "MaxCapacity": 2}
    assert "not found" in code_of(scaling.register_scalable_target, **nobody)[1]
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=4)
    scaling.put_scaling_policy(**policy)
    (found,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (found["MinCapacity"], found["MaxCapacity"]) == (1, 4)
    (kept,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert kept["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 70.0
    other = {"InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}
    prepared(client, "second", "second", variant=other)
    update = client("sagemaker").update_endpoint
    assert "must be deregistered" in code_of(update, EndpointName="dogs", EndpointConfigName="second")[1]
    scaling.deregister_scalable_target(**target)
    update(EndpointName="dogs", EndpointConfigName="second")
    assert settled(client("sagemaker"), "dogs")["EndpointConfigName"] == "second"


GPU = {"InferenceAmiVersion": "al2-ami-sagemaker-inference-gpu-3-1", "InstanceType": "ml.m5.large"}
SERVERLESS = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1}}
ASYNC = {"OutputConfig": {"S3OutputPath": "s3://nowhere/out"}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (config("dogs", "nobody"), 'Could not find model "nobody"'),
        (config("dogs", "model", GPU | {"InitialInstanceCount": 1}), "ml.m5.large has none"),
        (config("dogs", "model", {"InstanceType": "ml.m5.large"}), "InitialInstanceCount is missing"),
        (
            config("dogs", "model", SERVERLESS | {"VolumeSizeInGB": 30}),
            "VolumeSizeInGB is only for endpoints on instances",
        ),
        (config("dogs", "model", SERVERLESS, AsyncInferenceConfig=ASYNC), "AsyncInferenceConfig is only for endpoints"),
        (config("dogs", "model", AsyncInferenceConfig=ASYNC), "s3://nowhere/out: no such bucket"),
        (config("bad_name", "model"), "must match"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_configurations_that_are_refused(client: Callable[[str], Any], change: dict[str, Any], said: str) -> None:
    client("sagemaker").create_model(**model("model", archive(client)))
    assert said in code_of(client("sagemaker").create_endpoint_config, **change)[1]


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ({"ModelDataUrl": f"s3://{BUCKET}/files/nothing/model.tar.gz"}, "Could not find model data"),
        ({"ModelDataUrl": f"s3://{BUCKET}/files/model.zip"}, "must be the URI of an archive"),
        ({"Image": "dogs:latest"}, "Invalid image URI"),
        ({"Image": "763104351884.dkr.ecr.eu-west-1.amazonaws.com/ray:v1"}, "must be in us-east-1"),
    ],
)
def test_models_that_are_refused(client: Callable[[str], Any], container: dict[str, Any], said: str) -> None:
    request = model("dogs", archive(client))
    request["PrimaryContainer"] |= container
    assert said in code_of(client("sagemaker").create_model, **request)[1]


def test_names_are_taken_once(client: Callable[[str], Any]) -> None:
    in_service(client)
    sagemaker = client("sagemaker")
    request = model("first", archive(client))
    assert "already existing model" in code_of(sagemaker.create_model, **request)[1]
    assert (
        "already existing endpoint configuration"
        in code_of(sagemaker.create_endpoint_config, **config("first", "first"))[1]
    )
    twice = {"EndpointName": "Dogs", "EndpointConfigName": "first"}
    assert "already existing endpoint" in code_of(sagemaker.create_endpoint, **twice)[1]
    role = {**request, "ModelName": "other", "ExecutionRoleArn": "arn:aws:iam::123456789012:role/nobody"}
    assert "Could not assume role" in code_of(sagemaker.create_model, **role)[1]

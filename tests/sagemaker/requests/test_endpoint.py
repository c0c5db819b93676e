"""Requests of endpoints as the service would get them, and settings that make none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from omegaconf import OmegaConf

from dogbreeds.command_schemas import DeployCommandConfig
from dogbreeds.errors import ConfigError
from dogbreeds.sagemaker.requests.endpoint import (
    Deployment,
    check_variant,
    config_request,
    endpoint_request,
    model_request,
    scaling_requests,
    update_request,
)
from dogbreeds.sagemaker.requests.images import serving_image
from dogbreeds.sagemaker.requests.validation import check_request
from local_sagemaker.rules.instances import gpus
from tests.conftest import composed
from tests.local_sagemaker.jobs import botocore_problems

Compose = Callable[..., DeployCommandConfig]
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/ray:serve-ml-sagemaker-cpu-v1.4"
DEPLOYMENT = Deployment(
    endpoint="dogs",
    name="dogs-20261122-140359-ab12",
    archive="s3://bucket/dogbreeds/files/0123/model.tar.gz",
    image=IMAGE,
    role="arn:aws:iam::123456789012:role/dogbreeds",
    folder="s3://bucket/dogbreeds",
    package="resnet50 133 classes accuracy 0.843",
)
TAGS = [{"Key": "dogbreeds:endpoint", "Value": "dogs"}]


@pytest.fixture
def settings() -> Compose:
    """Composes what scripts/deploy.py reads."""

    def made(*overrides: str) -> DeployCommandConfig:
        config = OmegaConf.to_object(composed("deploy", overrides))
        assert isinstance(config, DeployCommandConfig)
        return config

    return made


def requests(config: DeployCommandConfig) -> dict[str, dict[str, Any]]:
    """All requests of a deployment, which have been judged."""
    check_variant(config.variant)
    found = {
        "CreateModel": model_request(DEPLOYMENT, config.sagemaker),
        "CreateEndpointConfig": config_request(DEPLOYMENT, config.variant, config.sagemaker),
        "CreateEndpoint": endpoint_request(DEPLOYMENT, config.sagemaker),
    }
    scaling = scaling_requests("dogs", config.variant)
    for service, judged in (("sagemaker", found), ("application-autoscaling", scaling)):
        for operation, request in judged.items():
            check_request(operation, request, service)
            assert botocore_problems(operation, request, service) == ""
    return {**found, **scaling}


def test_an_endpoint_as_a_whole(settings: Compose) -> None:
    assert requests(settings()) == {
        "CreateModel": {
            "ModelName": "dogs-20261122-140359-ab12",
            "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "s3://bucket/dogbreeds/files/0123/model.tar.gz"},
            "ExecutionRoleArn": "arn:aws:iam::123456789012:role/dogbreeds",
            "EnableNetworkIsolation": False,
            "Tags": [*TAGS, {"Key": "dogbreeds:package", "Value": "resnet50 133 classes accuracy 0.843"}],
        },
        "CreateEndpointConfig": {
            "EndpointConfigName": "dogs-20261122-140359-ab12",
            "ProductionVariants": [
                {
                    "VariantName": "AllTraffic",
                    "ModelName": "dogs-20261122-140359-ab12",
                    "InitialVariantWeight": 1.0,
                    "InstanceType": "ml.m5.xlarge",
                    "InitialInstanceCount": 1,
                    "ModelDataDownloadTimeoutInSeconds": 600,
                    "ContainerStartupHealthCheckTimeoutInSeconds": 600,
                }
            ],
            "Tags": TAGS,
        },
        "CreateEndpoint": {"EndpointName": "dogs", "EndpointConfigName": "dogs-20261122-140359-ab12", "Tags": TAGS},
    }


def test_every_setting_reaches_a_request(settings: Compose) -> None:
    found = requests(
        settings(
            "variant.instance=ml.m5.2xlarge",
            "variant.instances=2",
            "variant.max_instances=4",
            "variant.target=120",
            "variant.scale_in_seconds=600",
            "variant.scale_out_seconds=30",
            "variant.capture_percent=20",
            "variant.volume_gb=50",
            "variant.download_seconds=300",
            "variant.startup_seconds=900",
            "sagemaker.kms_key=key-1",
            "sagemaker.subnets=[subnet-1]",
            "sagemaker.security_groups=[sg-1]",
            "sagemaker.isolated=true",
            "+sagemaker.tags.team=dogs",
            "+sagemaker.environment.NAME=value",
        )
    )
    model, config = found["CreateModel"], found["CreateEndpointConfig"]
    assert model["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert model["EnableNetworkIsolation"] is True
    assert model["PrimaryContainer"]["Environment"] == {"NAME": "value"}
    assert {"Key": "team", "Value": "dogs"} in model["Tags"]
    assert config["KmsKeyId"] == "key-1"
    assert config["ProductionVariants"][0] | {"VolumeSizeInGB": 50} == config["ProductionVariants"][0]
    assert config["ProductionVariants"][0]["ContainerStartupHealthCheckTimeoutInSeconds"] == 900
    assert config["DataCaptureConfig"] == {
        "EnableCapture": True,
        "InitialSamplingPercentage": 20,
        "DestinationS3Uri": "s3://bucket/dogbreeds/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
        "KmsKeyId": "key-1",
    }
    resource = {
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "ResourceId": "endpoint/dogs/variant/AllTraffic",
    }
    assert found["RegisterScalableTarget"] == {**resource, "MinCapacity": 1, "MaxCapacity": 4}
    assert found["PutScalingPolicy"] == {
        **resource,
        "PolicyName": "dogbreeds",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": 120.0,
            "ScaleInCooldown": 600,
            "ScaleOutCooldown": 30,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        },
    }


def test_a_serverless_endpoint(settings: Compose) -> None:
    found = requests(settings("variant=serverless", "variant.memory_mb=4096", "sagemaker.kms_key=key-1"))
    assert found["CreateEndpointConfig"] == {
        "EndpointConfigName": "dogs-20261122-140359-ab12",
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": "dogs-20261122-140359-ab12",
                "InitialVariantWeight": 1.0,
                "ServerlessConfig": {"MemorySizeInMB": 4096, "MaxConcurrency": 5},
            }
        ],
        "Tags": TAGS,
    }


def test_an_asynchronous_endpoint(settings: Compose) -> None:
    scaled = ("variant.min_instances=0", "variant.max_instances=3")
    found = requests(settings("variant=asynchronous", *scaled, "sagemaker.kms_key=key-1"))
    assert found["CreateEndpointConfig"]["AsyncInferenceConfig"] == {
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 4},
        "OutputConfig": {
            "S3OutputPath": "s3://bucket/dogbreeds/async/dogs/answers",
            "S3FailurePath": "s3://bucket/dogbreeds/async/dogs/failures",
            "KmsKeyId": "key-1",
        },
    }
    assert found["RegisterScalableTarget"]["MinCapacity"] == 0
    aim = found["PutScalingPolicy"]["TargetTrackingScalingPolicyConfiguration"]
    assert aim["CustomizedMetricSpecification"]["MetricName"] == "ApproximateBacklogSizePerInstance"


@pytest.mark.slow
def test_instances_with_a_gpu(settings: Compose) -> None:
    config = settings("variant.instance=ml.g5.xlarge", "sagemaker.kms_key=key-1")
    request = requests(config)["CreateEndpointConfig"]
    assert request["ProductionVariants"][0]["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-gpu-3-1"
    # Its disks are its own, and encrypted by the hardware.
    assert "KmsKeyId" not in request
    assert serving_image(config.variant, "us-east-1").endswith("/ray:serve-ml-sagemaker-cuda-v1.4")
    assert ".eu-central-1." in serving_image(config.variant, "eu-central-1")


def test_an_update_keeps_what_autoscaling_has_chosen(settings: Compose) -> None:
    plain = {"EndpointName": "dogs", "EndpointConfigName": "dogs-20261122-140359-ab12"}
    assert update_request(DEPLOYMENT, scaled=False) == plain
    scaled = update_request(DEPLOYMENT, scaled=True)
    check_request("UpdateEndpoint", scaled)
    assert botocore_problems("UpdateEndpoint", scaled) == ""
    excluded = {one["VariantPropertyType"] for one in scaled["ExcludeRetainedVariantProperties"]}
    assert scaled["RetainAllVariantProperties"] is True
    assert "DesiredInstanceCount" not in excluded


@pytest.mark.parametrize(
    ("instance", "count"),
    [
        ("ml.m5.xlarge", 0),
        ("ml.c7g.xlarge", 0),
        ("ml.g4dn.xlarge", 1),
        ("ml.g4dn.16xlarge", 1),
        ("ml.g4dn.12xlarge", 4),
        ("ml.g5.16xlarge", 1),
        ("ml.g5.24xlarge", 4),
        ("ml.g6e.48xlarge", 8),
        ("ml.g7e.8xlarge", 1),
        ("ml.g7e.12xlarge", 2),
        ("ml.g7.24xlarge", 4),
        ("ml.g7e.48xlarge", 8),
        ("ml.p4d.24xlarge", 8),
        ("ml.g7.8xlarge", 1),
        ("ml.g7.12xlarge", 2),
        ("ml.p3.8xlarge", 4),
        ("ml.p5.4xlarge", 1),
        ("ml.p5.48xlarge", 8),
        ("ml.p5e.48xlarge", 8),
        ("ml.p6e-gb200.36xlarge", 4),
    ],
)
def test_gpus_of_instances(instance: str, count: int) -> None:
    assert gpus(instance) == count


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["variant.instance=ml.nothing"], r"^variant\.instance: "),
        (["variant.instances=0"], r"^variant\.instances: "),
        (["variant.instances=null"], r"^variant\.instances=null: "),
        (["variant.max_instances=3", "variant.min_instances=4"], r"^variant\.min_instances=4: .*max_instances=3"),
        (["variant.max_instances=3", "variant.min_instances=0"], r"^variant\.min_instances=0: must be at least 1"),
        (
            ["variant.max_instances=3", "variant.instances=5"],
            r"^variant\.instances=5: must be from variant\.min_instances=1",
        ),
        (["variant.startup_seconds=10"], r"^variant\.startup_seconds: .*at least 60, got 10"),
        (["variant.capture_percent=101"], r"^variant\.capture_percent: .*at most 100, got 101"),
        (["variant.memory_mb=2048"], r"^variant\.memory_mb=2048: realtime endpoints do not take it; remove it"),
        (["variant.volume_gb=30", "variant.instance=ml.g5.xlarge"], r"^variant\.volume_gb: .*its own disks"),
        (["variant=serverless", "variant.memory_mb=1500"], r"^variant\.memory_mb: .*must be one of 1024, 2048"),
        (["variant=serverless", "variant.instance=ml.m5.large"], r"^variant\.instance=ml\.m5\.large: serverless"),
        (["variant=serverless", "variant.capture_percent=1"], r"^variant\.capture_percent=1: serverless"),
        (
            ["variant=serverless", "variant.concurrency=null"],
            r"^variant\.concurrency=null: serverless endpoints need it",
        ),
        (["variant=asynchronous", "variant.concurrency=0"], r"^variant\.concurrency: .*at least 1, got 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_settings_that_are_refused(settings: Compose, overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        requests(settings(*overrides))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"serving_version": "9"}, r"variant\.serving_version=9 .*AWS has no such image"),
        ({"instance": "ml.c7g.large"}, r"variant\.instance=ml\.c7g\.large has an ARM processor"),
        ({"instance": "ml.inf2.xlarge"}, "AWS's own processor"),
        ({"instance": "ml.p3.2xlarge"}, "no longer supports"),
    ],
)
def test_images_that_there_are_not(settings: Compose, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        serving_image(replace(settings().variant, **changes), "us-east-1")
    assert serving_image(replace(settings().variant, **changes, image="mine"), "us-east-1") == "mine"


def test_names_that_the_service_refuses(settings: Compose) -> None:
    request = endpoint_request(replace(DEPLOYMENT, endpoint="my_dogs"), settings().sagemaker)
    with pytest.raises(ConfigError, match=r"^endpoint: EndpointName must match"):
        check_request("CreateEndpoint", request)

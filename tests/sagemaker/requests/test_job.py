"""Requests as the service would get them; those of the two replaced systems to the letter where they are compared."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from dogbreeds.command_schemas import LaunchCommandConfig
from dogbreeds.errors import ConfigError
from dogbreeds.hpo.settings import searchable
from dogbreeds.hpo.space import parse
from dogbreeds.sagemaker.protocol.metrics import metric_definitions
from dogbreeds.sagemaker.requests.images import rules_image, training_image
from dogbreeds.sagemaker.requests.job import training_request
from dogbreeds.sagemaker.requests.tuning import tuning_request
from local_sagemaker.rules.service_model import problems
from tests.hpo.ranges import RESNET50, VGG16
from tests.local_sagemaker.jobs import botocore_problems
from tests.sagemaker.conftest import Launch, MakeJob
from tests.sagemaker.requests import reference_requests as asked

DEBUGGER = ("DebugHookConfig", "DebugRuleConfigurations", "ProfilerRuleConfigurations")


def training(config: LaunchCommandConfig, make_job: MakeJob) -> dict[str, Any]:
    job = make_job(config.sagemaker, config.sagemaker.instance)
    request = training_request(job, config.sagemaker, config.debugger)
    assert problems("CreateTrainingJob", request) == []
    assert botocore_problems("CreateTrainingJob", request) == ""
    return request


def tuning(config: LaunchCommandConfig, make_job: MakeJob, *overrides: str) -> dict[str, Any]:
    job = replace(make_job(config.sagemaker, config.sagemaker.trial_instance), name="dogbreeds-211403-ab12")
    space = parse(config.hpo.space, overrides, searchable())
    request = tuning_request(job, config.sagemaker, config.hpo, space)
    assert problems("CreateHyperParameterTuningJob", request) == []
    assert botocore_problems("CreateHyperParameterTuningJob", request) == ""
    return request


@pytest.mark.parametrize(
    ("experiment", "objective", "ranges"),
    [
        ("resnet50_udacity", {"Type": "Maximize", "MetricName": "test/accuracy"}, RESNET50),
        ("vgg16_stanford", {"Type": "Minimize", "MetricName": "val/loss"}, VGG16),
    ],
)
def test_the_searches_of_the_replaced_systems(
    launch: Launch, make_job: MakeJob, experiment: str, objective: dict[str, str], ranges: dict[str, Any]
) -> None:
    asked_for = tuning(launch(f"experiment={experiment}"), make_job)["HyperParameterTuningJobConfig"]
    assert asked_for == {
        "Strategy": "Bayesian",
        "HyperParameterTuningJobObjective": objective,
        "ResourceLimits": {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 1},
        "ParameterRanges": ranges,
        "TrainingJobEarlyStoppingType": "Off",
        "RandomSeed": 3,
    }


def test_the_final_training_of_the_vgg16_system(launch: Launch, make_job: MakeJob) -> None:
    config = launch("experiment=vgg16_stanford", "debugger=aws")
    assert (config.lr, config.batch_size, config.epochs) == (0.0053945745752048664, 256, 7)
    assert config.optimizer == "adam"
    request = training(config, make_job)
    assert asked.rules(request["DebugRuleConfigurations"]) == asked.DEBUG_RULES
    assert asked.rules(request["ProfilerRuleConfigurations"]) == asked.PROFILER_RULES
    collections = request["DebugHookConfig"]["CollectionConfigurations"]
    assert {one["CollectionName"]: one["CollectionParameters"] for one in collections} == asked.COLLECTIONS
    assert request["ProfilerConfig"] == {
        "S3OutputPath": "s3://bucket/dogbreeds/jobs",
        "ProfilingIntervalInMilliseconds": asked.PROFILER_MILLISECONDS,
        "DisableProfiler": False,
    }


def test_a_training_job_as_a_whole(launch: Launch, make_job: MakeJob) -> None:
    assert training(launch(), make_job) == {
        "TrainingJobName": "dogbreeds-20261121-140359-ab12",
        "HyperParameters": {
            "lr": "0.01",
            "batch_size": "256",
            "epochs": "7",
            "seed": "3",
            "sagemaker_program": '"src/dogbreeds/sagemaker/job/entry_point.py"',
            "sagemaker_submit_directory": '"s3://bucket/dogbreeds/code/4567/sourcedir.tar.gz"',
            "sagemaker_region": '"us-east-1"',
            "sagemaker_container_log_level": "20",
        },
        "AlgorithmSpecification": {
            "TrainingImage": "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.13-cu133-amzn2023-sagemaker",
            "TrainingInputMode": "File",
            "MetricDefinitions": metric_definitions(),
        },
        "RoleArn": "arn:aws:iam::123456789012:role/dogbreeds",
        "InputDataConfig": [
            {
                "ChannelName": "photos",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": "s3://bucket/dogbreeds/photos/0123/",
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
                "InputMode": "File",
            }
        ],
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/dogbreeds/jobs"},
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 21_600},
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
        "CheckpointConfig": {"S3Uri": "s3://bucket/dogbreeds/jobs/dogbreeds-20261121-140359-ab12/checkpoints/"},
        "ProfilerConfig": {"DisableProfiler": True},
    }


def test_every_setting_of_sagemaker_reaches_both_kinds_of_jobs(launch: Launch, make_job: MakeJob) -> None:
    config = launch(
        "hpo=bayes",
        "sagemaker.image=123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1",
        "sagemaker.instance=ml.m5.xlarge",
        "sagemaker.volume_gb=50",
        "sagemaker.hours=0.5",
        "sagemaker.spot=true",
        "sagemaker.wait_hours=2",
        "sagemaker.retries=3",
        "sagemaker.subnets=[subnet-1]",
        "sagemaker.security_groups=[sg-1]",
        "sagemaker.kms_key=key-1",
        "sagemaker.isolated=true",
        "sagemaker.encrypt_traffic=true",
        "+sagemaker.tags.team=dogs",
        "+sagemaker.environment.NAME=value",
    )
    plain, search = training(config, make_job), tuning(config, make_job)
    trial = search["TrainingJobDefinition"]
    for request in (plain, trial):
        assert request["AlgorithmSpecification"]["TrainingImage"].endswith("/mine:1")
        assert request["ResourceConfig"]["VolumeSizeInGB"] == 50
        assert request["ResourceConfig"]["VolumeKmsKeyId"] == "key-1"
        assert request["OutputDataConfig"]["KmsKeyId"] == "key-1"
        assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 1_800, "MaxWaitTimeInSeconds": 9_000}
        assert request["EnableManagedSpotTraining"] is True
        assert request["CheckpointConfig"]["S3Uri"].endswith("/checkpoints/")
        assert request["RetryStrategy"] == {"MaximumRetryAttempts": 3}
        assert request["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
        assert request["EnableNetworkIsolation"] is True
        assert request["EnableInterContainerTrafficEncryption"] is True
        assert request["Environment"] == {"NAME": "value"}
        # Without a network the code comes by a channel.
        hyperparameters = request.get("HyperParameters") or request["StaticHyperParameters"]
        assert hyperparameters["sagemaker_submit_directory"] == '"/opt/ml/input/data/code/sourcedir.tar.gz"'
        assert [channel["ChannelName"] for channel in request["InputDataConfig"]] == ["code", "photos"]
    assert (plain["ResourceConfig"]["InstanceType"], trial["ResourceConfig"]["InstanceType"]) == (
        "ml.m5.xlarge",
        "ml.m5.large",
    )
    assert plain["Tags"] == search["Tags"] == [{"Key": "team", "Value": "dogs"}]


@pytest.mark.parametrize("instance", ["ml.g5.xlarge", "ml.g4dn.xlarge", "ml.p4d.24xlarge", "ml.r5d.large"])
def test_disks_of_the_instance_itself_take_no_key(launch: Launch, make_job: MakeJob, instance: str) -> None:
    request = training(launch("sagemaker.kms_key=key-1", f"sagemaker.instance={instance}"), make_job)
    assert "VolumeKmsKeyId" not in request["ResourceConfig"]
    assert request["OutputDataConfig"]["KmsKeyId"] == "key-1"


def test_a_tuning_job_carries_nothing_of_debugger(launch: Launch, make_job: MakeJob) -> None:
    request = tuning(launch("hpo=bayes", "debugger=aws"), make_job)
    assert not {*DEBUGGER, "ProfilerConfig"} & set(request["TrainingJobDefinition"])


def test_no_managed_debugger_is_none_of_it(launch: Launch, make_job: MakeJob) -> None:
    for debugger in ("default", "off"):
        request = training(launch(f"debugger={debugger}"), make_job)
        assert not set(DEBUGGER) & set(request)
        assert request["ProfilerConfig"] == {"DisableProfiler": True}


def test_managed_rules_are_changed_as_other_settings_are(launch: Launch, make_job: MakeJob) -> None:
    config = launch(
        "debugger=aws",
        "debugger.managed.rules.Overfit=null",
        "+debugger.managed.rules.DeadRelu={threshold_layer: 40.5, tensor_regex: null}",
        "debugger.managed.collections.losses=null",
    )
    request = training(config, make_job)
    found = asked.rules(request["DebugRuleConfigurations"])
    assert "Overfit" not in found
    assert found["DeadRelu"] == {"rule_to_invoke": "DeadRelu", "threshold_layer": "40.5"}
    collections = request["DebugHookConfig"]["CollectionConfigurations"]
    assert {one["CollectionName"] for one in collections} == set(asked.COLLECTIONS) - {"losses"}


def test_what_is_searched_is_not_fixed_too(launch: Launch, make_job: MakeJob) -> None:
    config = launch("hpo=bayes")
    static = tuning(config, make_job, "epochs=5,10")["TrainingJobDefinition"]["StaticHyperParameters"]
    assert {name for name in static if not name.startswith("sagemaker_")} == {"seed"}


def test_strategies(launch: Launch, make_job: MakeJob) -> None:
    random = launch("hpo=random", "hpo.early_stopping=true", "hpo.parallel=4", "hpo.warm_start=[first,second]")
    request = tuning(random, make_job)
    found = request["HyperParameterTuningJobConfig"]
    assert found["Strategy"] == "Random"
    assert found["TrainingJobEarlyStoppingType"] == "Auto"
    assert found["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 16, "MaxParallelTrainingJobs": 4}
    parents = request["WarmStartConfig"]["ParentHyperParameterTuningJobs"]
    assert [parent["HyperParameterTuningJobName"] for parent in parents] == ["first", "second"]

    found = tuning(launch("hpo=grid"), make_job)["HyperParameterTuningJobConfig"]
    assert found["Strategy"] == "Grid"
    assert found["ResourceLimits"] == {"MaxParallelTrainingJobs": 1}

    hyperband = launch("hpo=hyperband")
    for overrides, most in (((), 7), (("epochs=5,20",), 20), (("epochs=range(5,31)",), 30)):
        found = tuning(hyperband, make_job, *overrides)["HyperParameterTuningJobConfig"]
        assert found["StrategyConfig"] == {"HyperbandStrategyConfig": {"MinResource": 3, "MaxResource": most}}


def test_config_groups_are_searched_by_name(launch: Launch, make_job: MakeJob) -> None:
    found = tuning(launch("hpo=bayes"), make_job, "model=resnet18,resnet50")["HyperParameterTuningJobConfig"]
    assert found["ParameterRanges"]["CategoricalParameterRanges"][-1] == {
        "Name": "model",
        "Values": ["resnet18", "resnet50"],
    }


def test_images_of_aws(launch: Launch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sagemaker.core.image_uris")
    config = launch("sagemaker.framework=pytorch", "sagemaker.framework_version='2.10'").sagemaker
    assert training_image(config, "ml.m5.large").endswith("/pytorch-training:2.10-cpu-py313")
    frankfurt = replace(config, region="eu-central-1")
    assert ".eu-central-1." in training_image(frankfurt, "ml.g5.xlarge")
    assert rules_image("eu-central-1").startswith("482524230118.dkr.ecr.eu-central-1.")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("changes", "instance", "said"),
    [
        ({}, "ml.p3.2xlarge", r"no longer supports: take .*sagemaker\.image"),
        ({}, "ml.trn1.2xlarge", "AWS's own processor"),
        ({"framework": "xgboost"}, "ml.m5.large", r"^sagemaker\.framework=xgboost: must be one of"),
        ({"framework_version": "2.8"}, "ml.m5.large", r"^sagemaker\.framework_version=2\.8: .* 2\.10 or later"),
        ({"framework_version": "latest"}, "ml.m5.large", r"^sagemaker\.framework_version=latest"),
        ({"framework_version": "2.99"}, "ml.m5.large", r"framework_version=2\.99.*AWS has no such image"),
        ({"region": "nowhere-1"}, "ml.m5.large", r"sagemaker\.region=nowhere-1: AWS has no such image"),
    ],
)
def test_images_that_there_are_not(launch: Launch, changes: dict[str, Any], instance: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        training_image(replace(launch().sagemaker, **changes), instance)


def test_an_image_of_ones_own_with_older_cuda_runs_on_older_gpus(launch: Launch) -> None:
    config = replace(launch().sagemaker, image="mine/pytorch:2.10-cu126")
    assert training_image(config, "ml.p3.2xlarge") == "mine/pytorch:2.10-cu126"


def test_isolation_needs_an_image_with_everything_in_it(launch: Launch, make_job: MakeJob) -> None:
    with pytest.raises(ConfigError, match=r"^sagemaker\.isolated=true: .*sagemaker\.image"):
        training(launch("sagemaker.isolated=true"), make_job)


def test_debugger_where_there_is_none(launch: Launch, make_job: MakeJob) -> None:
    with pytest.raises(ConfigError, match=r"^debugger\.managed \(debugger=aws\), sagemaker\.region=il-central-1"):
        training(launch("debugger=aws", "sagemaker.region=il-central-1"), make_job)

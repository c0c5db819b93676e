"""Requests that the service would refuse, and which setting the person is told to change."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ParamValidationError
from botocore.session import Session
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from dogbreeds.command_schemas import DeployCommandConfig, LaunchCommandConfig
from dogbreeds.errors import ConfigError
from dogbreeds.hpo.settings import searchable
from dogbreeds.hpo.space import parse
from dogbreeds.sagemaker.requests.job import training_request
from dogbreeds.sagemaker.requests.tuning import tuning_request
from dogbreeds.sagemaker.requests.validation import SETTINGS, check_request, setting_of
from dogbreeds.schema import key_types
from local_sagemaker.rules.service_model import problems
from tests.sagemaker.conftest import Launch, MakeJob

METRICS = [{"Name": "val/loss", "Regex": r"val/loss=(\S+)"}]
TRAINING, TUNING = "CreateTrainingJob", "CreateHyperParameterTuningJob"
Request = dict[str, Any]


@pytest.fixture
def training(launch: Launch, make_job: MakeJob) -> Callable[..., Request]:
    def made(*overrides: str) -> Request:
        config = launch(*overrides)
        # Instances that there are not have no image.
        image = replace(config.sagemaker, image="image")
        job = replace(make_job(image, config.sagemaker.instance), instances=config.sagemaker.instances)
        return training_request(job, image, config.debugger)

    return made


@pytest.fixture
def tuning(launch: Launch, make_job: MakeJob) -> Callable[..., Request]:
    def made(*overrides: str) -> Request:
        config = launch(*overrides)
        image = replace(config.sagemaker, image="image")
        job = replace(make_job(image, config.sagemaker.trial_instance), name="search")
        space = parse(config.hpo.space, [], searchable())
        return tuning_request(job, image, config.hpo, space)

    return made


def said(operation: str, request: Request) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check_request(operation, request)
    return str(caught.value).splitlines()


@pytest.mark.slow
def test_requests_of_the_settings_as_they_are(training: Callable[..., Request], tuning: Callable[..., Request]) -> None:
    check_request(TRAINING, training())
    check_request(TRAINING, training("debugger=aws", "sagemaker.spot=true", "sagemaker.retries=1"))
    for hpo in ("bayes", "random", "hyperband", "grid"):
        check_request(TUNING, tuning(f"hpo={hpo}"))


@pytest.mark.parametrize(
    ("overrides", "beginning"),
    [
        (["sagemaker.hours=0"], "sagemaker.hours: StoppingCondition.MaxRuntimeInSeconds must be at least 1, got 0."),
        (["sagemaker.hours=700"], "sagemaker.hours: StoppingCondition.MaxRuntimeInSeconds must be at most 28 days"),
        (["sagemaker.spot=true", "sagemaker.wait_hours=-1"], "sagemaker.wait_hours: "),
        (["sagemaker.volume_gb=-1"], "sagemaker.volume_gb: ResourceConfig.VolumeSizeInGB must be at least 0, got -1"),
        (["sagemaker.instances=-1"], "sagemaker.instances: "),
        (["sagemaker.retries=31"], "sagemaker.retries: RetryStrategy.MaximumRetryAttempts must be at most 30, got 31"),
        (["sagemaker.kms_key='a key'"], "sagemaker.kms_key: OutputDataConfig.KmsKeyId must match"),
        (
            ["sagemaker.subnets=[subnet-1]"],
            "sagemaker.security_groups: VpcConfig.SecurityGroupIds must have at least 1",
        ),
        (["sagemaker.security_groups=[sg-1]"], "sagemaker.subnets: "),
        (["+sagemaker.environment={1A: x}"], "sagemaker.environment: Environment[1A] must match"),
        (["sagemaker.instance=ml.g5.xlrge"], "sagemaker.instance: ResourceConfig.InstanceType is 'ml.g5.xlrge', "),
        (
            ["debugger=aws", "debugger.managed.system_milliseconds=300"],
            "debugger.managed.system_milliseconds: ProfilerConfig.ProfilingIntervalInMilliseconds must be one of",
        ),
        (
            ["debugger=aws", f"+debugger.managed.rules.DeadRelu={{tensor_regex: {'x' * 300}}}"],
            "debugger.managed.rules: DebugRuleConfigurations[4].RuleParameters[tensor_regex] must have at most 256",
        ),
    ],
)
def test_training_jobs(training: Callable[..., Request], overrides: list[str], beginning: str) -> None:
    lines = said(TRAINING, training(*overrides))
    assert len(lines) == 1
    assert lines[0].startswith(beginning), lines[0]


def test_instances_that_are_misspelt_are_guessed(training: Callable[..., Request]) -> None:
    (line,) = said(TRAINING, training("sagemaker.instance=ml.g5.xlrge"))
    assert "Did you mean ml.g5.xlarge" in line
    assert len(line) < 250


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "beginning"),
    [
        (["hpo=hyperband", "hpo.early_stopping=true"], "hpo.early_stopping: "),
        (["hpo=hyperband", "hpo.min_epochs=null"], "hpo.min_epochs: "),
        (["hpo=bayes", "hpo.parallel=5"], "hpo.parallel: "),
        (["hpo=random", "hpo.parallel=101", "hpo.trials=200"], "hpo.parallel: "),
        (["hpo=bayes", "hpo.trials=751"], "hpo.trials: "),
        (["hpo=random", "hpo.trials=10001"], "hpo.trials: "),
        (["hpo=bayes", "hpo.trials=null"], "hpo.trials: "),
        (["hpo=grid", "hpo.trials=3"], "hpo.trials: "),
        (["hpo=bayes", "hpo.warm_start=[a,b,c,d,e,f]"], "hpo.warm_start: "),
        (["hpo=bayes", "hpo.warm_start=[a_b]"], "hpo.warm_start: "),
        (["hpo=bayes", "sagemaker.trial_instance=ml.x.large"], "sagemaker.trial_instance: "),
        (["hpo=bayes", "sagemaker.spot=true", "sagemaker.wait_hours=-1"], "sagemaker.wait_hours: "),
    ],
)
def test_tuning_jobs(tuning: Callable[..., Request], overrides: list[str], beginning: str) -> None:
    lines = said(TUNING, tuning(*overrides))
    assert len(lines) == 1, lines
    assert lines[0].startswith(beginning), lines[0]


def test_random_searches_may_be_longer_than_others(tuning: Callable[..., Request]) -> None:
    check_request(TUNING, tuning("hpo=random", "hpo.trials=10000", "hpo.parallel=100"))
    check_request(TUNING, tuning("hpo=bayes", "hpo.trials=750"))


def test_names_have_a_length(tuning: Callable[..., Request], training: Callable[..., Request]) -> None:
    assert said(TUNING, tuning("hpo=bayes") | {"HyperParameterTuningJobName": "x" * 33}) == [
        "sagemaker.prefix: HyperParameterTuningJobName must have at most 32 characters, got 33."
    ]
    assert said(TRAINING, training() | {"TrainingJobName": "my_dogs"})[0].startswith("sagemaker.prefix: ")


def test_hyperparameters_are_called_by_their_settings(training: Callable[..., Request]) -> None:
    request = training()
    request["HyperParameters"]["model.weights"] = "x" * 2501
    assert said(TRAINING, request)[0].startswith("model.weights: HyperParameters[model.weights] must have at most 2500")


def test_a_hundred_hyperparameters_with_the_one_that_the_service_adds(tuning: Callable[..., Request]) -> None:
    request = tuning("hpo=bayes")
    static = request["TrainingJobDefinition"]["StaticHyperParameters"]
    ranges = request["HyperParameterTuningJobConfig"]["ParameterRanges"]
    searched = sum(len(ranges[kind]) for kind in ranges)
    static |= {f"setting{number}": "1" for number in range(99 - searched - len(static))}
    check_request(TUNING, request)
    static["another"] = "1"
    assert "at most 99 hyperparameters, fixed and searched together; got 100" in said(TUNING, request)[0]


def test_what_is_fixed_cannot_be_searched(tuning: Callable[..., Request]) -> None:
    request = tuning("hpo=bayes")
    request["TrainingJobDefinition"]["StaticHyperParameters"]["lr"] = "0.1"
    assert said(TUNING, request)[0].startswith("hpo.space: ")


@pytest.mark.parametrize("member", ["DebugHookConfig", "DebugRuleConfigurations", "ProfilerConfig"])
def test_tuning_jobs_take_nothing_of_debugger(
    training: Callable[..., Request], tuning: Callable[..., Request], member: str
) -> None:
    request = tuning("hpo=bayes")
    request["TrainingJobDefinition"][member] = training("debugger=aws")[member]
    assert said(TUNING, request)[0].endswith(f"TrainingJobDefinition.{member} is not known to the service.")


def test_what_the_service_model_leaves_open_is_checked_too(training: Callable[..., Request]) -> None:
    request = training()
    del request["StoppingCondition"], request["ResourceConfig"]["InstanceType"]
    request["ResourceConfig"]["VolumeSizeInGB"] = 0
    lines = said(TRAINING, request)
    for words in ("StoppingCondition is missing", "InstanceType is missing", "must be at least 1, got 0"):
        assert any(words in line for line in lines), (words, lines)


def test_tags(training: Callable[..., Request]) -> None:
    def tagged(*keys: str) -> Request:
        return training() | {"Tags": [{"Key": key, "Value": "ünï"} for key in keys]}

    check_request(TRAINING, tagged("Team", "team", "café"))
    assert said(TRAINING, tagged("team", "AWS:team"))[0].startswith("sagemaker.tags: Tags[1].Key must not begin with")
    assert said(TRAINING, tagged("team", "team")) == [
        "sagemaker.tags: Tags names must be unique: 'team' appears 2 times."
    ]
    assert said(TRAINING, tagged("a;b"))[0].startswith("sagemaker.tags: Tags[0].Key must match")


def test_names_are_given_once(training: Callable[..., Request]) -> None:
    request = training("debugger=aws")
    for listed in (request["InputDataConfig"], request["DebugRuleConfigurations"]):
        listed.append(listed[0])
    request["AlgorithmSpecification"]["MetricDefinitions"] = METRICS * 2
    lines = said(TRAINING, request)
    assert ["'photos' appears 2" in lines[0], "'val/loss' appears 2" in lines[1]] == [True, True]
    assert lines[2].startswith("debugger.managed.rules: ")


def test_everything_is_listed_at_once(training: Callable[..., Request]) -> None:
    lines = said(TRAINING, training("sagemaker.retries=31", "sagemaker.hours=0", "sagemaker.kms_key='a key'"))
    assert {line.split(":")[0] for line in lines} == {"sagemaker.retries", "sagemaker.hours", "sagemaker.kms_key"}


def test_settings_that_there_are() -> None:
    known = {*key_types(LaunchCommandConfig), *key_types(DeployCommandConfig)} | {
        f"debugger.managed.{name}" for name in MANAGED
    }
    named = {setting for settings in SETTINGS.values() for setting in settings.split(", ")}
    assert named <= known
    assert setting_of("HyperParameters[sagemaker_program]") is None
    assert setting_of("AlgorithmSpecification") is None


MANAGED = ("rules", "profiler_rules", "collections", "system_milliseconds")
WRONG = st.sampled_from([None, 1.5, "", [], {}, {"x": 1}, True, ["x"], 10**9])


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inside for place in _places(one, (*path, key)))]


def test_nothing_that_botocore_refuses_passes(training: Callable[..., Request]) -> None:
    """Whatever is put in the place of whatever member."""
    whole = training("debugger=aws", "sagemaker.retries=1", "+sagemaker.tags.team=dogs")
    shape = Session().get_service_model("sagemaker").operation_model(TRAINING).input_shape
    validator = ParamValidator()

    @given(st.sampled_from(_places(whole)[1:]), WRONG)
    def differs(place: tuple[Any, ...], value: Any) -> None:
        request = deepcopy(whole)
        holder: Any = request
        for step in place[:-1]:
            holder = holder[step]
        holder[place[-1]] = value
        try:
            report = validator.validate(request, shape)
        except ParamValidationError:
            return
        if report.has_errors():
            assert problems(TRAINING, request), report.generate_report()

    differs()

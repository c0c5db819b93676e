"""scripts/deploy.py on a rehearsed account whose containers cost nothing: what it says, and what it leaves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hydra import compose, initialize_config_dir

from dogbreeds.command_schemas import DeployCommandConfig
from dogbreeds.config import command_settings
from dogbreeds.data.transform import Transform
from dogbreeds.errors import ConfigError, PackageError, UserError
from dogbreeds.model.head import HeadShape
from dogbreeds.package.package import Description, write_description
from dogbreeds.sagemaker.aws_errors import aws_errors
from dogbreeds.sagemaker.endpoints import commands as endpoint_commands
from dogbreeds.sagemaker.endpoints.account import Endpoints
from dogbreeds.sagemaker.endpoints.client import asker_of
from dogbreeds.sagemaker.requests.endpoint import scaled_resource
from dogbreeds.sagemaker.session import Account, connected
from local_sagemaker import Faults, LocalSageMaker
from tests.conftest import ROOT
from tests.local_sagemaker.serving.fakes import FakeContainer, settled

pytestmark = pytest.mark.ci

Deploy = Callable[..., str]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """What is enough of a package for who does not load it."""
    directory = tmp_path / "run" / "model"
    directory.mkdir(parents=True)
    described = Description(
        classes=["a", "b"],
        backbone="resnet18",
        pretrained=False,
        unfreeze=None,
        transform=Transform(256, 224, "bilinear", (0.5,) * 3, (0.5,) * 3),
        head=HeadShape("linear", 512, 2),
        engine="torch",
        precision="fp32",
        temperature=1.0,
        metrics={"test/accuracy": 0.9},
    )
    write_description(directory, described)
    return directory


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., DeployCommandConfig]]:
    """Composes what scripts/deploy.py reads, for a rehearsal with containers that cost nothing."""
    FakeContainer.made.clear()
    FakeContainer.release.set()
    monkeypatch.setattr("dogbreeds.sagemaker.endpoints.deployer.archive_for", _archive)

    def composed(*overrides: str) -> DeployCommandConfig:
        place = f"sagemaker.rehearsal_dir={tmp_path / 'rehearsal'}"
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return command_settings(compose("deploy", ["sagemaker=rehearsal", place, *overrides]), DeployCommandConfig)

    with LocalSageMaker(tmp_path / "rehearsal", Faults(), FakeContainer):
        yield composed
    assert all(container.closed for container in FakeContainer.made)


def _archive(package: Path, archive: Path, *, gpus: int, requirements: bool) -> None:
    """The content that fake containers are told apart by."""
    content = package.parent / "content"
    archive.write_text(f"{content.read_text() if content.exists() else 'first'} {gpus} {requirements}")


@pytest.fixture
def deploy(settings: Callable[..., DeployCommandConfig], package: Path) -> Deploy:
    def deployed(*overrides: str) -> str:
        return endpoint_commands.run(settings(f"package={package.parent}", "endpoint=dogs", *overrides))

    return deployed


def account(settings: Callable[..., DeployCommandConfig], look: Callable[[Endpoints], Any]) -> Any:
    with connected(settings().sagemaker) as opened:
        return look(Endpoints(opened))


def scaling(one: Endpoints) -> tuple[tuple[int, int], dict[str, Any]]:
    """The limits of a scaled endpoint, and the aims of its policies."""
    target = one.scaling_target("dogs")
    assert target is not None
    policies = one.account.scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    aims = {policy["PolicyName"]: policy.get("TargetTrackingScalingPolicyConfiguration") for policy in policies}
    return (target["MinCapacity"], target["MaxCapacity"]), aims


def names(settings: Callable[..., DeployCommandConfig]) -> tuple[list[str], list[str]]:
    found: tuple[list[str], list[str]] = account(settings, lambda one: one.parts("dogs"))
    return found


def test_a_model_is_deployed_updated_and_removed(
    deploy: Deploy,
    settings: Callable[..., DeployCommandConfig],
    package: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    said = deploy("variant.instance=ml.g5.12xlarge", "variant.max_instances=2")
    assert "answer   Pug (90.0%)" in said
    assert "python scripts/deploy.py action=delete endpoint=dogs sagemaker=rehearsal" in said
    assert FakeContainer.made[0].content == "first 4 True"
    assert "serves   " in caplog.text and "resnet18 2 classes accuracy 0.900" in caplog.text
    status = endpoint_commands.run(settings("action=status", "endpoint=dogs"))
    for words in ("dogs, InService", "1 x ml.g5.12xlarge", "resnet18 2 classes", "scales   from 1 to 2 instances"):
        assert words in status
    assert "resnet18 2" in endpoint_commands.run(settings("action=list"))

    # Another model, on other instances: autoscaling has to end for that.
    (package.parent / "content").write_text("second")
    (former,), _ = names(settings)
    caplog.clear()
    deploy("variant.capture_percent=50", "sagemaker.isolated=true", "sagemaker.image=mine")
    assert FakeContainer.made[-1].content == "second 0 False"
    assert f"removed endpoint configuration {former}" in caplog.text
    configs, models = names(settings)
    assert configs == models and len(models) == 1 and former not in models
    status = endpoint_commands.run(settings("action=status", "endpoint=dogs"))
    assert "captures 50%" in status and "scales" not in status
    # The same once more uploads nothing.
    capsys.readouterr()
    deploy("variant.max_instances=3", "sagemaker.isolated=true")
    assert "Uploading" not in capsys.readouterr().out

    with pytest.raises(UserError, match=r"Not a terminal, so this cannot be confirmed; add yes=true: .*yes=true"):
        endpoint_commands.run(settings("action=delete", "endpoint=dogs"))
    removed = endpoint_commands.run(settings("action=delete", "endpoint=dogs", "yes=true"))
    assert removed.splitlines()[:2] == ["removed  autoscaling", "removed  endpoint dogs"]
    assert names(settings) == ([], [])
    assert endpoint_commands.run(settings("action=list")) == "No endpoint of this project is running."
    with pytest.raises(UserError, match="No endpoint named dogs"):
        endpoint_commands.run(settings("action=delete", "endpoint=dogs", "yes=true"))


def test_who_is_asked_decides(
    deploy: Deploy, settings: Callable[..., DeployCommandConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy("variant=serverless")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[str] = []

    def answering(answer: str) -> Callable[[str], str]:
        return lambda question: asked.append(question) or answer  # type: ignore[func-returns-value]

    with pytest.raises(UserError, match=r"^Nothing was changed\.$"):
        endpoint_commands.run(settings("action=delete", "endpoint=dogs"), answering(""))
    assert "endpoint dogs (serverless, 6144 MB)" in asked[0]
    assert "removed  endpoint dogs" in endpoint_commands.run(settings("action=delete", "endpoint=dogs"), answering("y"))


@pytest.mark.ci
def test_a_model_that_does_not_come_up(
    deploy: Deploy, settings: Callable[..., DeployCommandConfig], package: Path
) -> None:
    (package.parent / "content").write_text("dies")
    with pytest.raises(UserError) as caught:
        deploy()
    for words in ("ping health check", "  ImportError: no module", "has failed", "action=delete endpoint=dogs"):
        assert words in str(caught.value)
    with pytest.raises(UserError, match="dogs is Failed and cannot be updated"):
        deploy()
    assert "failure  The primary" in endpoint_commands.run(settings("action=status", "endpoint=dogs"))
    assert "removed  endpoint dogs" in endpoint_commands.run(settings("action=delete", "endpoint=dogs", "yes=true"))
    assert names(settings) == ([], [])


@pytest.mark.ci
def test_an_update_that_does_not_come_up(
    deploy: Deploy, settings: Callable[..., DeployCommandConfig], package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy("variant.max_instances=3", "variant.target=120")
    before, scaled = names(settings), account(settings, scaling)
    (package.parent / "content").write_text("dies")
    ready = FakeContainer.ready

    def outlived(container: FakeContainer) -> bool:
        """Lets the former container have the last word."""
        try:
            return ready(container)
        finally:
            FakeContainer.made[0].log("GET /ping 200")

    monkeypatch.setattr(FakeContainer, "ready", outlived)
    with pytest.raises(UserError, match="dogs was not updated; the former model still answers") as caught:
        deploy()
    assert "  ImportError: no module" in str(caught.value) and "/ping 200" not in str(caught.value)
    with pytest.raises(UserError, match="Rate exceeded"):
        deploy("+sagemaker.faults.throttled.UpdateEndpoint=99")
    assert names(settings) == before
    # It ended for an update to no autoscaling, twice.
    assert account(settings, scaling) == scaled
    assert scaled[0] == (1, 3) and scaled[1]["dogbreeds"]["TargetValue"] == 120.0
    with pytest.raises(UserError, match="dogs is realtime and cannot become variant=serverless"):
        deploy("variant=serverless")


def test_what_others_added_to_an_endpoint_stays(
    deploy: Deploy, settings: Callable[..., DeployCommandConfig], package: Path
) -> None:
    deploy("variant.max_instances=3")
    others = {**scaled_resource("dogs"), "PolicyName": "wake", "PolicyType": "StepScaling"}
    steps = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": [{"ScalingAdjustment": 1}]}
    alarm = {"MetricName": "Backlog", "Namespace": "Mine", "Statistic": "Average", "Threshold": 1.0, "Period": 60}
    when = {"EvaluationPeriods": 1, "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "ignore"}
    night = {"ScheduledActionName": "night", "Schedule": "cron(0 22 * * ? *)", "Timezone": "Europe/Berlin"}

    def add(one: Endpoints) -> None:
        service, cloudwatch = one.account.scaling, one.account.client("cloudwatch")
        put = service.put_scaling_policy(**others, StepScalingPolicyConfiguration=steps)
        cloudwatch.put_metric_alarm(AlarmName="b", **alarm, **when, AlarmActions=["arn:mail", put["PolicyARN"]])
        cloudwatch.put_metric_alarm(AlarmName="c", **alarm, **when, AlarmActions=["arn:mail"])
        service.put_scheduled_action(
            **scaled_resource("dogs"), **night, ScalableTargetAction={"MinCapacity": 0, "MaxCapacity": 1}
        )
        arn = one.describe("dogs")["EndpointArn"]
        one.account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "owner", "Value": "me"}])

    def found(one: Endpoints) -> dict[str, Any]:
        service, cloudwatch = one.account.scaling, one.account.client("cloudwatch")
        policies = service.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
        (action,) = service.describe_scheduled_actions(ServiceNamespace="sagemaker")["ScheduledActions"]
        names = {policy["PolicyARN"]: policy["PolicyName"] for policy in policies}
        alarms = cloudwatch.describe_alarms()["MetricAlarms"]
        return {
            "limits": scaling(one)[0],
            "policies": {one["PolicyName"]: one.get("StepScalingPolicyConfiguration") for one in policies},
            "started": {one["AlarmName"]: [names.get(arn, arn) for arn in one["AlarmActions"]] for one in alarms},
            "alarm": {name: alarms[0][name] for name in (alarm | when)},
            "night": {name: action[name] for name in (*night, "ScalableTargetAction")},
            "tags": one.account.sagemaker.list_tags(ResourceArn=one.describe("dogs")["EndpointArn"])["Tags"],
        }

    account(settings, add)
    before = account(settings, found)
    assert before["policies"].keys() == {"dogbreeds", "wake"}
    assert before["started"] == {"b": ["arn:mail", "wake"], "c": ["arn:mail"]}
    # Other instances: autoscaling has to end for them, which takes all policies along.
    deploy("variant.max_instances=4", "variant.target=70", "variant.instance=ml.m5.2xlarge")
    assert account(settings, found) == before | {"limits": (1, 4)}
    assert account(settings, scaling)[1]["dogbreeds"]["TargetValue"] == 70.0
    (package.parent / "content").write_text("dies")
    with pytest.raises(UserError, match="not updated"):
        deploy("variant.max_instances=5", "variant.instance=ml.m5.xlarge")
    assert account(settings, found) == before | {"limits": (1, 4)}
    # Without autoscaling of ours that of others goes on.
    (package.parent / "content").write_text("third")
    deploy("variant.instance=ml.m5.2xlarge")
    after = account(settings, found)
    assert after["policies"] == {"wake": before["policies"]["wake"]}
    assert after["started"] == before["started"] and after["limits"] == (1, 4)
    deploy("variant.instance=ml.m5.xlarge")
    assert account(settings, found) == after


def test_an_endpoint_of_somebody_else_is_left_alone(
    deploy: Deploy, settings: Callable[..., DeployCommandConfig]
) -> None:
    deploy()
    (config,), _ = names(settings)

    def make(one: Endpoints) -> dict[str, Any]:
        one.account.sagemaker.create_endpoint(EndpointName="cats", EndpointConfigName=config)
        return settled(one.account.sagemaker, "cats")

    account(settings, make)
    with pytest.raises(UserError, match="cats is not an endpoint of this project"):
        deploy("endpoint=cats")
    with pytest.raises(UserError, match="cats is not an endpoint of this project"):
        endpoint_commands.run(settings("action=delete", "endpoint=cats", "yes=true"))
    kept = account(settings, lambda one: one.describe("cats"))
    assert (kept["EndpointStatus"], kept["EndpointConfigName"]) == ("InService", config)


def test_tags_that_may_not_be_read_are_not_ours(settings: Callable[..., DeployCommandConfig]) -> None:
    class Service:
        def get_paginator(self, operation: str) -> Service:
            return self

        def paginate(self) -> list[dict[str, Any]]:
            return [{"Endpoints": [{"EndpointName": name, "EndpointArn": name} for name in ("cats", "dogs")]}]

        def list_tags(self, ResourceArn: str) -> dict[str, Any]:
            if ResourceArn == "cats":
                raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ListTags")
            return {"Tags": [{"Key": "dogbreeds:endpoint", "Value": "dogs"}]}

    found = Endpoints(Account(lambda service: Service(), settings("action=list").sagemaker)).ours()
    assert [one["EndpointName"] for one in found] == ["dogs"]


def test_what_is_refused_leaves_nothing(deploy: Deploy, settings: Callable[..., DeployCommandConfig]) -> None:
    with pytest.raises(UserError, match=r"Cannot create dogs \(CreateEndpoint: .*Rate exceeded.*a minute"):
        deploy("+sagemaker.faults.throttled.CreateEndpoint=99")
    assert names(settings) == ([], [])
    assert endpoint_commands.run(settings("action=list")).startswith("No endpoint")


def test_an_asynchronous_endpoint_is_tried_through_s3(deploy: Deploy) -> None:
    assert "answer   Pug" in deploy("variant=asynchronous")


def test_whoever_leaves_learns_how_to_look(
    deploy: Deploy, settings: Callable[..., DeployCommandConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dogbreeds.sagemaker.endpoints.deployer.wait", leave)
    with pytest.raises(UserError, match=r"action=status endpoint=dogs") as caught:
        deploy()
    assert caught.value.exit_code == 130
    configs, models = names(settings)
    assert len(configs) == len(models) == 1


@pytest.mark.parametrize("code", ["ExpiredTokenException", "AccessDeniedException"])
def test_a_deployment_outlives_the_credentials_that_began_it(
    code: str, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    described, calls = Endpoints.describe, 0

    def refuses(one: Endpoints, endpoint: str) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 2:
            with aws_errors("get the status of dogs"):
                raise ClientError({"Error": {"Code": code, "Message": "no"}}, "DescribeEndpoint")
        return described(one, endpoint)

    monkeypatch.setattr(Endpoints, "describe", refuses)
    if code == "ExpiredTokenException":
        assert "answer   Pug" in deploy()
        assert "The endpoint (it costs until it is deleted) does not need this connection" in caplog.text
    else:
        with pytest.raises(UserError, match=r"permissions.* costs until it is deleted\) keeps running.*action=status"):
            deploy()


def test_a_search_means_its_best_trial(settings: Callable[..., DeployCommandConfig], package: Path) -> None:
    search = package.parents[1]
    (search / "best.yaml").write_text("trial: run\n")
    assert "answer" in endpoint_commands.run(settings(f"package={search}", "endpoint=dogs"))


@pytest.mark.parametrize(
    ("overrides", "kind", "said"),
    [
        (["action=stop"], ConfigError, "action=stop: must be one of deploy, status"),
        (["action=status"], ConfigError, "endpoint=null: action=status needs"),
        (["endpoint=dogs"], ConfigError, "package=null: set package="),
        (["endpoint=dogs", "package=nowhere"], PackageError, "package=nowhere: no model.json there"),
        (["endpoint=nobody", "action=status"], UserError, "No endpoint named nobody"),
    ],
)
def test_what_cannot_be_done(
    settings: Callable[..., DeployCommandConfig], overrides: list[str], kind: type[UserError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        endpoint_commands.run(settings(*overrides))


def test_a_damaged_package(deploy: Deploy, package: Path) -> None:
    (package / "model.json").write_text("{}")
    with pytest.raises(PackageError, match=r"model\.json is damaged"):
        deploy()


def test_autoscaling_that_a_left_deployment_stopped_comes_back(
    deploy: Deploy,
    settings: Callable[..., DeployCommandConfig],
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    def left(*overrides: str) -> None:
        with monkeypatch.context() as patched, pytest.raises(UserError, match="action=status endpoint=dogs"):
            patched.setattr("dogbreeds.sagemaker.endpoints.deployer.wait", leave)
            deploy(*overrides)
        assert account(settings, lambda one: one.scaling_target("dogs")) is None
        account(settings, lambda one: settled(one.account.sagemaker, "dogs"))

    def schedule(one: Endpoints) -> None:
        one.account.scaling.put_scheduled_action(
            **scaled_resource("dogs"),
            ScheduledActionName="night",
            Schedule="cron(0 22 * * ? *)",
            StartTime="2027-01-01T00:00:00Z",
            ScalableTargetAction={"MinCapacity": 1, "MaxCapacity": 1},
        )

    def night(one: Endpoints) -> list[Any]:
        found = one.account.scaling.describe_scheduled_actions(ServiceNamespace="sagemaker")["ScheduledActions"]
        return [(action["ScheduledActionName"], action["StartTime"].year) for action in found]

    # A new endpoint that was to scale.
    left("variant.max_instances=2")
    assert "scales   from 1 to 2" in endpoint_commands.run(settings("action=status", "endpoint=dogs"))
    account(settings, schedule)
    # Other instances, and other limits.
    left("variant.max_instances=4", "variant.instance=ml.m5.2xlarge")
    assert "scales   from 1 to 4" in endpoint_commands.run(settings("action=status", "endpoint=dogs"))
    assert account(settings, night) == [("night", 2027)]
    # The update fails after the command was left: the former autoscaling belongs to the former model.
    (package.parent / "content").write_text("dies")
    left("variant.max_instances=5", "variant.instance=ml.m5.xlarge")
    (package.parent / "content").write_text("second")
    deploy("variant.max_instances=6", "variant.instance=ml.m5.2xlarge")
    assert account(settings, scaling)[0] == (1, 6) and account(settings, night) == [("night", 2027)]
    # Neither AWS's refusal nor its answer to whether the update has begun comes through.
    described, calls = Endpoints.describe, 0

    def refuses(one: Endpoints, endpoint: str) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise UserError("Cannot get the status of dogs (ExpiredToken).")
        return described(one, endpoint)

    with monkeypatch.context() as patched, pytest.raises(UserError, match="Rate exceeded"):
        patched.setattr(Endpoints, "describe", refuses)
        deploy("variant.instance=ml.m5.xlarge", "+sagemaker.faults.throttled.UpdateEndpoint=99")
    assert account(settings, scaling)[0] == (1, 6) and account(settings, night) == [("night", 2027)]


def test_hints_of_what_is_not_there_stay_in_the_rehearsal(
    settings: Callable[..., DeployCommandConfig], tmp_path: Path
) -> None:
    hint = rf"python scripts/deploy\.py action=list sagemaker=rehearsal sagemaker\.rehearsal_dir={tmp_path}"
    found = settings("action=status", "endpoint=nobody")
    with pytest.raises(UserError, match=hint):
        endpoint_commands.run(found)
    refused = pytest.raises(UserError, match=f"Cannot ask endpoint=nobody .*Could not find.*{hint}")
    with refused, asker_of(found.sagemaker, "nobody", 1) as asker:
        asker.predict(b"photo")


def test_a_deletion_outlasts_credentials_and_whoever_leaves_it(
    deploy: Deploy, settings: Callable[..., DeployCommandConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy()
    waited, closed, hint = endpoint_commands.wait_until_deleted, threading.Event(), "action=delete endpoint=dogs"
    close = FakeContainer.close
    monkeypatch.setattr(FakeContainer, "close", lambda container: closed.wait(60) and close(container))

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    def expire(*arguments: Any) -> None:
        with connected(settings("+sagemaker.faults.expired.DescribeEndpoint=3").sagemaker):
            closed.set()
        waited(*arguments)

    monkeypatch.setattr(endpoint_commands, "wait_until_deleted", leave)
    with pytest.raises(UserError, match=f"deletion keeps running.*{hint}") as caught:
        endpoint_commands.run(settings("action=delete", "endpoint=dogs", "yes=true"))
    assert caught.value.exit_code == 130
    monkeypatch.setattr(endpoint_commands, "wait_until_deleted", expire)
    removed = endpoint_commands.run(settings("action=delete", "endpoint=dogs", "yes=true"))
    assert "removed  endpoint dogs" in removed and names(settings) == ([], [])

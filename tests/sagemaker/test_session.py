"""Region, role and bucket of an account, and messages about what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.sagemaker import commands
from dogbreeds.sagemaker.aws_errors import ForbiddenError, MissingError, aws_errors
from dogbreeds.sagemaker.session import Account, connected
from dogbreeds.schema import TrainConfig
from local_sagemaker import Faults, LocalSageMaker
from tests.sagemaker.conftest import Launch

pytestmark = pytest.mark.slow


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account with nothing in it, and credentials for it."""
    for name, value in (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setenv(name, value)
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with mock_aws():
        yield


def test_the_bucket_of_the_region_is_created_and_closed(account: None, launch: Launch) -> None:
    settings = launch("sagemaker.region=eu-central-1", "sagemaker.role=arn:aws:iam::123456789012:role/x").sagemaker
    for _ in range(2):
        with connected(settings) as found:
            assert found.bucket == "sagemaker-eu-central-1-123456789012"
            assert found.role == "arn:aws:iam::123456789012:role/x"
            closed = found.s3.get_public_access_block(Bucket=found.bucket)["PublicAccessBlockConfiguration"]
            assert set(closed.values()) == {True}


def test_a_named_bucket_must_exist(account: None, launch: Launch) -> None:
    settings = launch("sagemaker.role=arn:aws:iam::123456789012:role/x", "sagemaker.bucket=mine").sagemaker
    with connected(settings) as found, pytest.raises(ConfigError, match=r"sagemaker.bucket=mine: no bucket of that"):
        _ = found.bucket


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalSageMaker]:
    """Its default bucket, and one of the name `theirs`, are somebody else's."""
    foreign = ("sagemaker-us-east-1-123456789012", "theirs")
    with LocalSageMaker(tmp_path / "service", Faults(foreign_buckets=foreign)) as service:
        for bucket in (*foreign, "mine"):
            service.client("s3").create_bucket(Bucket=bucket)
        yield service


def test_a_bucket_of_somebody_else_is_refused(local: LocalSageMaker, launch: Launch) -> None:
    """Whoever has taken the name of the default one would otherwise get the photos, and could replace the code."""
    for typed, bucket in (((), "sagemaker-us-east-1-123456789012"), (("sagemaker.bucket=theirs",), "theirs")):
        found = Account(local.session().client, launch(*typed).sagemaker)
        with pytest.raises(ConfigError, match=rf"^sagemaker\.bucket={bucket}: .*sagemaker\.bucket=<bucket>"):
            _ = found.bucket
        # Every request says whose the bucket must be.
        with pytest.raises(ClientError, match="AccessDenied"):
            found.s3.put_object(Bucket=bucket, Key="code", Body=b"")
        with pytest.raises(ClientError, match="AccessDenied"):
            found.s3.copy_object(Bucket=bucket, Key="code", CopySource={"Bucket": "mine", "Key": "code"})


def test_a_bucket_of_an_account_that_is_named_is_used(local: LocalSageMaker, launch: Launch) -> None:
    settings = launch("sagemaker.bucket=theirs", "sagemaker.bucket_owner='999999999999'").sagemaker
    found = Account(local.session().client, settings)
    found.s3.put_object(Bucket=found.bucket, Key="code", Body=b"1")
    assert found.bucket == "theirs"
    with pytest.raises(ConfigError, match="mine: it does not belong to account 999999999999"):
        found.has_bucket("mine")


def test_a_role_is_found_by_its_name(account: None, launch: Launch) -> None:
    iam = boto3.client("iam")
    iam.create_role(RoleName="trainer", AssumeRolePolicyDocument="{}")
    with connected(launch("sagemaker.role=trainer").sagemaker) as found:
        assert found.role == "arn:aws:iam::123456789012:role/trainer"
    with (
        connected(launch("sagemaker.role=nobody").sagemaker) as found,
        pytest.raises(ConfigError, match=r"sagemaker.role=nobody: no role of that name"),
    ):
        _ = found.role


def test_a_notebook_runs_jobs_as_its_own_role(account: None, launch: Launch) -> None:
    iam, sts = boto3.client("iam"), boto3.client("sts")
    arn = iam.create_role(RoleName="notebook", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    keys = sts.assume_role(RoleArn=arn, RoleSessionName="me")["Credentials"]
    session = boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    assert Account(session.client, launch().sagemaker).role == arn


def test_a_missing_setting_is_named(account: None, launch: Launch) -> None:
    settings = launch().sagemaker
    with (
        connected(settings) as found,
        pytest.raises(ConfigError, match=r"sagemaker.role=null: these credentials are not a role"),
    ):
        _ = found.role
    with pytest.raises(ConfigError, match=r"sagemaker.region"):
        connected(replace(settings, region=None)).__enter__()


def test_an_unknown_fault_is_refused_by_name(launch: Launch) -> None:
    settings = launch("sagemaker=rehearsal", "+sagemaker.faults.x=1").sagemaker
    with pytest.raises(ConfigError, match=r"sagemaker.faults.x: must be one of capacity_errors, interrupt_after"):
        connected(settings).__enter__()


def test_to_follow_a_job_needs_neither_role_nor_bucket(account: None, launch: Launch) -> None:
    """Nothing is created on the way either."""
    settings = launch().sagemaker
    with pytest.raises(UserError, match="No training job named nobody on AWS in us-east-1"):
        commands.attach(settings, "nobody", cast(TrainConfig, None))
    with pytest.raises(UserError, match="No training job named nobody"):
        commands.stop(settings, "nobody")
    assert boto3.client("s3").list_buckets()["Buckets"] == []


def test_without_credentials_one_message_says_so(
    account: None, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with (
        connected(launch("sagemaker.role=arn:aws:iam::123456789012:role/x").sagemaker) as found,
        pytest.raises(UserError, match=r"Unable to locate credentials.*sagemaker=rehearsal needs none"),
    ):
        _ = found.bucket


@pytest.mark.parametrize(
    ("variables", "config", "said"),
    [
        ({"AWS_PROFILE": "nope"}, "", r"profile \(nope\) could not be found\)\. Correct AWS_PROFILE"),
        ({}, "[default", "Unable to parse config file"),
        ({"AWS_MAX_ATTEMPTS": "abc"}, "", "'abc'"),
        ({"AWS_ENDPOINT_URL": "foo"}, "", "Invalid endpoint: foo"),
        ({"AWS_DEFAULT_REGION": "us-east-1a"}, "", r"sagemaker\.region=us-east-1a: .*Did you mean us-east-1"),
        (
            {"AWS_ACCESS_KEY_ID": ""},
            "[default]\nsso_start_url=https://x\nsso_region=us-east-1\nsso_account_id=1\nsso_role_name=x\n",
            r"Error loading SSO Token.*Log in: aws sso login\.",
        ),
        ({"AWS_ACCESS_KEY_ID": ""}, "[default]\ncredential_process=/nope/x\n", "No such file or directory: '/nope/x'"),
    ],
)
def test_what_aws_is_configured_with_is_refused_in_a_line(
    account: None,
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str],
    config: str,
    said: str,
) -> None:
    (tmp_path / "config").write_text(config)
    for name, value in {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
        if not value:
            monkeypatch.delenv(name)
            monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match=said):
        connected(replace(launch().sagemaker, region=None)).__enter__()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("sagemaker.region=eu-central-9", "knows no such region"),
        ("sagemaker.role=arn:aws-cn:iam::123456789012:role/dogbreeds", "in us-east-1 begin with arn:aws:"),
        ("sagemaker.role=arn:aws:iam::123456789012:role/service-role/x", "no role of that name"),
    ],
)
def test_a_rehearsal_refuses_what_is_elsewhere(launch: Launch, rehearsed: str, typed: str, said: str) -> None:
    settings = launch("sagemaker=rehearsal", rehearsed, typed).sagemaker
    with pytest.raises(ConfigError, match=said), connected(settings) as found:
        _ = found.role


@pytest.mark.parametrize("region", ["eu-central-1", "cn-north-1", "us-gov-west-1"])
def test_a_rehearsal_is_where_it_was_asked_for(launch: Launch, rehearsed: str, region: str) -> None:
    with connected(launch("sagemaker=rehearsal", rehearsed, f"sagemaker.region={region}").sagemaker) as found:
        assert found.bucket == f"sagemaker-{region}-123456789012"
        assert found.role.endswith(":iam::123456789012:role/local-sagemaker")
        typed = found.command("launch", "stop=x")
        assert typed.endswith(f"stop=x sagemaker=rehearsal {rehearsed} sagemaker.region={region}")


def answers(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "CreateTrainingJob")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (answers("Throttling", "Rate exceeded"), UserError, r"^Cannot do it \(CreateTrainingJob: Throttling: Rate"),
        (answers("404", "Not Found"), MissingError, "Cannot do it"),
        (answers("ValidationException", 'Could not find model "dogs".'), MissingError, "Could not find"),
        (answers("ValidationException", "1 validation error detected"), UserError, "1 validation error"),
        (answers("AccessDenied", "no"), ForbiddenError, r"docs/sagemaker\.md lists the permissions"),
        (EndpointConnectionError(endpoint_url="https://x"), UserError, "Cannot do it .*https://x"),
    ],
    ids=["refused", "no object", "no model", "invalid", "forbidden", "offline"],
)
def test_errors_of_aws_become_messages(error: Exception, kind: type[UserError], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught, aws_errors("do it"):
        raise error
    assert type(caught.value) is kind

"""Region, role and bucket of an account, and messages about what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.sagemaker import commands
from dogbreeds.sagemaker.aws_errors import MissingError, aws_errors
from dogbreeds.sagemaker.session import Account, connected
from dogbreeds.schema import TrainConfig
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
        pytest.raises(UserError, match=r"No AWS credentials.*sagemaker=rehearsal needs none"),
    ):
        _ = found.bucket


def answers(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "CreateTrainingJob")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            answers("Throttling", "Rate exceeded"),
            UserError,
            r"^Cannot do it \(CreateTrainingJob: Throttling: Rate",
        ),
        (answers("404", "Not Found"), MissingError, "Cannot do it"),
        (answers("ValidationException", 'Could not find model "dogs".'), MissingError, "Could not find"),
        (answers("ValidationException", "1 validation error detected"), UserError, "1 validation error"),
        (answers("AccessDenied", "no"), UserError, r"docs/sagemaker\.md lists the permissions"),
        (EndpointConnectionError(endpoint_url="https://x"), UserError, "Cannot do it .*https://x"),
    ],
    ids=["refused", "no object", "no model", "invalid", "forbidden", "offline"],
)
def test_errors_of_aws_become_messages(error: Exception, kind: type[UserError], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught, aws_errors("do it"):
        raise error
    assert type(caught.value) is kind

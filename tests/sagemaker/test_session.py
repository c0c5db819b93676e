"""Whose account, which region, role and bucket: found, or said what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from dogbreeds.errors import ConfigError
from dogbreeds.sagemaker.session import message_of, opened
from tests.sagemaker.conftest import Launch


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


def test_the_bucket_of_the_region_is_made_and_closed(account: None, launch: Launch) -> None:
    settings = launch("sagemaker.region=eu-central-1", "sagemaker.role=arn:aws:iam::123456789012:role/x").sagemaker
    for _ in range(2):
        with opened(settings) as session:
            assert session.bucket == "sagemaker-eu-central-1-123456789012"
            assert session.role == "arn:aws:iam::123456789012:role/x"
            assert session.uri("a", "b") == "s3://sagemaker-eu-central-1-123456789012/a/b"
            closed = session.s3.get_public_access_block(Bucket=session.bucket)["PublicAccessBlockConfiguration"]
            assert set(closed.values()) == {True}


def test_a_bucket_with_a_name_of_ones_own_must_be_there(account: None, launch: Launch) -> None:
    settings = launch("sagemaker.role=arn:aws:iam::123456789012:role/x", "sagemaker.bucket=mine").sagemaker
    with pytest.raises(ConfigError, match=r"sagemaker.bucket=mine: there is no such bucket"), opened(settings):
        pass


def test_a_role_is_found_by_its_name(account: None, launch: Launch) -> None:
    iam = boto3.client("iam")
    iam.create_role(RoleName="trainer", AssumeRolePolicyDocument="{}")
    with opened(launch("sagemaker.role=trainer").sagemaker) as session:
        assert session.role == "arn:aws:iam::123456789012:role/trainer"
    with pytest.raises(ConfigError, match=r"sagemaker.role=nobody: there is no such role"):
        opened(launch("sagemaker.role=nobody").sagemaker).__enter__()


def test_what_is_missing_is_said_with_the_setting(account: None, launch: Launch) -> None:
    settings = launch().sagemaker
    with pytest.raises(ConfigError, match=r"sagemaker.role=null: these credentials are no role"):
        opened(settings).__enter__()
    with pytest.raises(ConfigError, match=r"sagemaker.region"):
        opened(replace(settings, region=None)).__enter__()


def test_without_credentials_one_message_says_so(
    account: None, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(ConfigError, match=r"no AWS credentials.*sagemaker=rehearsal needs none"):
        opened(launch("sagemaker.role=arn:aws:iam::123456789012:role/x").sagemaker).__enter__()


def test_what_the_service_says_is_told_with_its_code() -> None:
    error = ClientError({"Error": {"Code": "Throttling", "Message": "Rate exceeded"}}, "CreateTrainingJob")
    assert message_of(error) == "Throttling: Rate exceeded"

"""scripts/aws.py: what it makes in an empty account, what it leaves alone, and that nothing of it is left."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from dogbreeds import composing
from dogbreeds.command_schemas import AwsCommandConfig
from dogbreeds.errors import UserError
from dogbreeds.sagemaker import account_setup
from dogbreeds.sagemaker.account_setup import TAG, AccountSetup, policy
from dogbreeds.sagemaker.session import Account
from local_sagemaker import LocalSageMaker
from local_sagemaker.admission import role_problems
from tests.conftest import ROOT
from tests.local_sagemaker.conftest import FAST_TRAIN, NO_FAULTS
from tests.local_sagemaker.jobs import BUCKET as JOBS
from tests.local_sagemaker.jobs import answer_problems, training_job, tuning_job, upload_code, wait_for, wait_for_tuning

BUCKET = "dogbreeds-us-east-1-123456789012"
ROLE = "dogbreeds-sagemaker-us-east-1"
ARN = f"arn:aws:iam::123456789012:role/{ROLE}"
TYPED = ("sagemaker=rehearsal", "yes=true")
MADE = [{"Key": TAG, "Value": "dogbreeds"}]


@pytest.fixture(scope="module")
def config() -> AwsCommandConfig:
    composing.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        found = OmegaConf.to_object(compose("aws", ["sagemaker=rehearsal", "yes=true"]))
    assert isinstance(found, AwsCommandConfig)
    return found


class Empty:
    """An account with nothing in it; each command finds it anew."""

    def __init__(self, local: LocalSageMaker, config: AwsCommandConfig, directory: Path) -> None:
        self.local, self.s3, self.iam = local, local.client("s3"), local.client("iam")
        self._config = replace(config, sagemaker=replace(config.sagemaker, rehearsal_dir=str(directory)))

    def account(self, **settings: Any) -> Account:
        return Account(self.local.session().client, replace(self._config.sagemaker, **settings))

    def run(self, action: str, account: Account | None = None, ask: Any = input, **settings: Any) -> str:
        setup = AccountSetup(account or self.account(), replace(self._config, action=action, **settings), TYPED, ask)
        return "\n".join({"setup": setup.make, "status": setup.status, "teardown": setup.remove}[action]())

    def buckets(self) -> list[str]:
        return [one["Name"] for one in self.s3.list_buckets()["Buckets"]]


@pytest.fixture
def empty(tmp_path: Path, config: AwsCommandConfig) -> Iterator[Empty]:
    with LocalSageMaker(tmp_path / "service", NO_FAULTS, toolkit=FAST_TRAIN) as local:
        yield Empty(local, config, tmp_path)


def test_setup_makes_what_jobs_need_and_launches_find_it(empty: Empty) -> None:
    said = empty.run("setup")
    assert f"bucket   {BUCKET}" in said and f"role     {ARN}" in said
    where = {"Bucket": BUCKET}
    assert empty.s3.get_bucket_tagging(**where)["TagSet"] == MADE
    assert set(empty.s3.get_public_access_block(**where)["PublicAccessBlockConfiguration"].values()) == {True}
    owned = empty.s3.get_bucket_ownership_controls(**where)["OwnershipControls"]["Rules"]
    assert owned == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert "AES256" in str(empty.s3.get_bucket_encryption(**where)["ServerSideEncryptionConfiguration"])
    *expiring, parts = empty.s3.get_bucket_lifecycle_configuration(**where)["Rules"]
    prefixes = {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in expiring}
    assert prefixes == {"dogbreeds/code/": 60, "dogbreeds/checkpoints/": 60, "dogbreeds/async/": 60}
    assert parts["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert not list(role_problems(ARN))
    document = empty.iam.get_role_policy(RoleName=ROLE, PolicyName="dogbreeds")["PolicyDocument"]
    assert document == json.loads(policy("role", empty.account(), BUCKET))
    assert f"arn:aws:s3:::{BUCKET}/dogbreeds/*" in str(document) and "<" not in str(document)
    account = empty.account()
    assert (account.bucket, account.role) == (BUCKET, ARN)
    # What is typed wins.
    empty.s3.create_bucket(Bucket="mine")
    empty.iam.create_role(RoleName="own", AssumeRolePolicyDocument="{}")
    account = empty.account(bucket="mine", role="own")
    assert (account.bucket, account.role.rpartition("/")[2]) == ("mine", "own")


def test_setup_again_changes_nothing_and_completes_what_broke_off(empty: Empty) -> None:
    first = empty.run("setup")
    assert empty.run("setup") == first
    empty.iam.delete_role_policy(RoleName=ROLE, PolicyName="dogbreeds")
    empty.s3.delete_bucket_tagging(Bucket=BUCKET)
    empty.account().known_file.unlink()
    assert "Not all is there. Make it: python scripts/aws.py action=setup" in empty.run("status")
    assert empty.run("setup") == first
    assert empty.s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"] == MADE
    assert empty.iam.list_role_policies(RoleName=ROLE)["PolicyNames"] == ["dogbreeds"]


def test_status_says_what_is_there_and_what_it_costs(empty: Empty) -> None:
    said = empty.run("status")
    assert f"bucket   {BUCKET}: missing" in said and f"role     {ROLE}: missing" in said
    assert "Not all is there" in said and "storage" not in said
    empty.run("setup")
    empty.s3.put_object(Bucket=BUCKET, Key="dogbreeds/jobs/one/output.tar.gz", Body=b"1234")
    said = empty.run("status")
    assert f"bucket   {BUCKET}: made by setup" in said and f"role     {ROLE}: made by setup" in said
    assert "storage  1 files, 4 bytes: costs" in said and "No endpoint of this project is running." in said
    assert "Not all is there" not in said


def test_teardown_leaves_nothing(empty: Empty) -> None:
    empty.run("setup")
    empty.s3.put_object(Bucket=BUCKET, Key="dogbreeds/code/0/sourcedir.tar.gz", Body=b"code")
    said = empty.run("teardown")
    assert f"removed  role {ROLE}" in said and f"removed  bucket {BUCKET} with 1 files" in said
    assert empty.buckets() == [] and not empty.account().known_file.exists()
    assert [one["RoleName"] for one in empty.iam.list_roles()["Roles"]] == ["local-sagemaker"]
    assert "nothing: setup has made nothing here" in empty.run("teardown")


def test_teardown_keeps_results_until_they_are_to_go(empty: Empty) -> None:
    empty.run("setup")
    empty.s3.put_object(Bucket=BUCKET, Key="dogbreeds/jobs/one/output.tar.gz", Body=b"1234")
    said = empty.run("teardown")
    again = f"action=teardown sagemaker.bucket={BUCKET} delete_results=true sagemaker=rehearsal"
    assert f"kept     bucket {BUCKET}, for its results, 1 files, 4 bytes." in said and again in said
    assert empty.buckets() == [BUCKET] and f"removed  role {ROLE}" in said
    empty.run("teardown", empty.account(bucket=BUCKET), delete_results=True)
    assert empty.buckets() == []


def test_teardown_waits_for_jobs(empty: Empty) -> None:
    empty.run("setup")
    sagemaker, iam = empty.local.client("sagemaker"), empty.iam
    empty.s3.create_bucket(Bucket=JOBS)
    iam.create_role(RoleName="other", AssumeRolePolicyDocument=policy("trust", empty.account(), BUCKET))
    code, other = upload_code(empty.s3, "import time; time.sleep(600)"), ARN.replace(ROLE, "other")
    single = {"ResourceLimits": {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1}}
    sagemaker.create_training_job(**training_job("dogbreeds-one", code, RoleArn=other))
    sagemaker.create_training_job(**training_job("by-role", code, RoleArn=ARN))
    sagemaker.create_training_job(**training_job("elsewhere", code, RoleArn=other))
    sagemaker.create_hyper_parameter_tuning_job(**tuning_job("tuned-by-role", code, single, RoleArn=ARN))
    while not sagemaker.list_training_jobs(NameContains="tuned-by-role-001")["TrainingJobSummaries"]:
        time.sleep(0.05)
    for operation in ("ListTrainingJobs", "ListHyperParameterTuningJobs"):
        for status, some in (("InProgress", True), ("Failed", False)):
            listed = getattr(sagemaker, xform_name(operation))(StatusEquals=status)
            del listed["ResponseMetadata"]
            assert not answer_problems(operation, listed)
            assert bool(listed.popitem()[1]) is some
    with pytest.raises(UserError, match="need them") as caught:
        empty.run("teardown", delete_results=True)
    assert set(re.findall(r"stop=(\S+)", str(caught.value))) == {"dogbreeds-one", "by-role", "tuned-by-role"}
    assert set(re.findall(r"running  (\S+):", empty.run("status"))) == {"dogbreeds-one", "by-role", "tuned-by-role"}
    assert BUCKET in empty.buckets() and iam.get_role(RoleName=ROLE)
    sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="tuned-by-role")
    for name in ("dogbreeds-one", "by-role"):
        sagemaker.stop_training_job(TrainingJobName=name)
        wait_for(sagemaker, name)
    wait_for_tuning(sagemaker, "tuned-by-role")
    assert f"removed  role {ROLE}" in empty.run("teardown", delete_results=True)


def test_what_setup_did_not_make_is_left_alone(empty: Empty) -> None:
    empty.s3.create_bucket(Bucket="mine")
    empty.iam.create_role(RoleName="own", AssumeRolePolicyDocument="{}")
    typed = empty.account(bucket="mine", role="own")
    said = empty.run("setup", typed)
    assert "bucket   mine" in said and "role/own" in said
    with pytest.raises(ClientError, match="NoSuchTagSet"):
        empty.s3.get_bucket_tagging(Bucket="mine")
    assert "removed  " in empty.run("teardown", delete_results=True)
    assert empty.buckets() == ["mine"] and empty.iam.get_role(RoleName="own")
    assert empty.iam.list_role_policies(RoleName="own")["PolicyNames"] == []


def test_an_empty_bucket_without_tags_is_completed_and_never_removed(empty: Empty) -> None:
    empty.s3.create_bucket(Bucket=BUCKET)
    assert f"bucket   {BUCKET}: not made by setup" in empty.run("status")
    assert "nothing: setup has made nothing here" in empty.run("teardown", delete_results=True)
    assert empty.buckets() == [BUCKET]
    empty.run("setup")
    assert empty.s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"] == MADE


def test_it_asks_first(empty: Empty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    asked: list[str] = []

    def no(question: str) -> str:
        asked.append(question)
        return "n"

    with pytest.raises(UserError, match="Nothing was changed"):
        empty.run("setup", ask=no, yes=False)
    assert f"make     bucket {BUCKET}: private" in asked[0] and f"make     role {ROLE}" in asked[0]
    assert empty.buckets() == []
    empty.run("setup", ask=lambda _: "y", yes=False)
    with pytest.raises(UserError, match="Nothing was changed"):
        empty.run("teardown", ask=no, yes=False)
    assert f"role {ROLE}\n  bucket {BUCKET} with 0 files" in asked[1]
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    with pytest.raises(UserError, match=r"add yes=true: python scripts/aws.py action=teardown .*yes=true") as caught:
        empty.run("teardown", yes=False)
    assert caught.value.exit_code == 2 and empty.buckets() == [BUCKET]


def test_a_permission_that_lacks_is_named_in_a_line(empty: Empty) -> None:
    words = "User: arn:aws:iam::123456789012:user/me is not authorized to perform: iam:CreateRole"

    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": words}}, "CreateRole")

    session = empty.local.session()
    session.events.register("provide-client-params.iam.CreateRole", refuse)
    account = Account(session.client, empty.account().settings)
    with pytest.raises(UserError, match=r"^Cannot make the role .*iam:CreateRole.*docs/sagemaker\.md") as caught:
        empty.run("setup", account)
    assert "\n" not in str(caught.value) and not account.known_file.exists()
    # The same command goes on from there.
    assert ARN in empty.run("setup")


def test_a_setup_is_for_one_prefix(empty: Empty) -> None:
    empty.run("setup")
    team = empty.account(prefix="team")
    assert team.known == {} and "role     team-sagemaker-us-east-1: missing" in empty.run("status", team)
    empty.run("setup", team)
    assert empty.account(prefix="team").bucket == "team-us-east-1-123456789012" and empty.account().bucket == BUCKET


def test_a_key_is_allowed_to_the_role(empty: Empty) -> None:
    with pytest.raises(UserError, match=r"sagemaker.kms_key=alias/mine: .*ARN"):
        empty.run("setup", empty.account(kms_key="alias/mine"))
    for key in ("1234-ab", "arn:aws:kms:us-east-1:123456789012:key/1234-ab"):
        empty.run("setup", empty.account(kms_key=key))
        document = empty.iam.get_role_policy(RoleName=ROLE, PolicyName="dogbreeds")["PolicyDocument"]
        (resource,) = [one["Resource"] for one in document["Statement"] if "kms:Decrypt" in one["Action"]]
        assert resource == "arn:aws:kms:us-east-1:123456789012:key/1234-ab"


def test_on_aws_a_setup_is_known_whatever_the_address(
    empty: Empty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: tmp_path / name)
    assert "wait     some seconds" in empty.run("setup", empty.account(rehearsal=False))
    assert "wait  " not in empty.run("setup", empty.account(rehearsal=False))
    file = empty.account(rehearsal=False).known_file
    file.write_text(file.read_text().replace("http:", "https:"))
    account = empty.account(rehearsal=False)
    assert (account.bucket, account.role) == (BUCKET, ARN)
    empty.iam.delete_role_policy(RoleName=ROLE, PolicyName="dogbreeds")
    empty.iam.delete_role(RoleName=ROLE)
    empty.s3.delete_bucket(Bucket=BUCKET)
    for what in ("bucket", "role"):
        with pytest.raises(UserError) as caught:
            getattr(empty.account(rehearsal=False), what)
        assert str(caught.value).startswith(f"{file} names the {what} ")
        assert "python scripts/aws.py action=setup sagemaker.prefix=dogbreeds" in str(caught.value)


def test_a_rehearsal_that_has_ended_is_forgotten(tmp_path: Path, config: AwsCommandConfig) -> None:
    for _ in range(2):
        with LocalSageMaker(tmp_path / "service", NO_FAULTS) as local:
            empty = Empty(local, config, tmp_path)
            assert empty.account().role.endswith("role/local-sagemaker")
            empty.run("setup")
            assert empty.account().role == ARN


def page() -> str:
    return (ROOT / "docs" / "sagemaker.md").read_text(encoding="utf-8")


def test_the_page_shows_the_policies_as_they_are() -> None:
    shown = re.findall(r"```json\n(.*?)```", page(), re.DOTALL)
    policies = (Path(account_setup.__file__).parent / "policies").glob("*.json")
    assert sorted(shown) == sorted(path.read_text(encoding="utf-8") for path in policies)

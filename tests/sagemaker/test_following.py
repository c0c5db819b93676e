"""Messages about a job that is followed, and about one that has ended."""

from __future__ import annotations

from dataclasses import replace

import pytest
from botocore.exceptions import EndpointConnectionError

from dogbreeds.errors import UserError
from dogbreeds.sagemaker.aws_errors import advice
from dogbreeds.sagemaker.following import Followed
from dogbreeds.sagemaker.launch.job_handle import MAX_TUNING_JOB_NAME, TRAINING, changes, summary
from dogbreeds.sagemaker.launch.launcher import MAX_JOB_NAME, job_name
from dogbreeds.sagemaker.session import Account
from tests.sagemaker.conftest import Launch


def test_names_of_jobs_fit() -> None:
    for longest in (MAX_JOB_NAME, MAX_TUNING_JOB_NAME):
        name = job_name("a-prefix-that-is-far-too-long-for-any-name-of-any-job-at-all-really", longest)
        assert len(name) <= longest and "--" not in name
    assert job_name("dogbreeds", MAX_TUNING_JOB_NAME).startswith("dogbreeds-2")
    assert job_name("dogbreeds", MAX_JOB_NAME) != job_name("dogbreeds", MAX_JOB_NAME)


def test_a_status_has_its_phase_and_what_the_service_says() -> None:
    described = {
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Training",
        "SecondaryStatusTransitions": [{"Status": "Training", "StatusMessage": "In progress."}],
    }
    assert summary(described) == ["status InProgress, Training: In progress."]
    assert changes(described, TRAINING) == ["Training  In progress."]
    assert summary({"TrainingJobStatus": "Stopped"}) == ["status Stopped"]


def test_the_end_of_a_job_says_why_what_rules_found_and_what_was_billed() -> None:
    described = {
        "TrainingJobStatus": "Failed",
        "FailureReason": "AlgorithmError: lr=-1",
        "DebugRuleEvaluationStatuses": [
            {"RuleConfigurationName": "Overfit", "RuleEvaluationStatus": "IssuesFound", "StatusDetails": "at step 3"}
        ],
        "TrainingTimeInSeconds": 100,
        "BillableTimeInSeconds": 30,
        "EnableManagedSpotTraining": True,
    }
    assert summary(described) == [
        "status Failed",
        "reason AlgorithmError: lr=-1",
        "try    The log above says more; training with the same settings on this machine shows it.",
        "rule   Overfit: IssuesFound (at step 3)",
        "time   100 s, 30 s billed, Spot saved 70%",
    ]
    assert summary({**described, "EnableManagedSpotTraining": False})[-1] == "time   100 s, 30 s billed"


@pytest.mark.parametrize("rehearsal", [False, True])
@pytest.mark.parametrize(
    ("happened", "said"),
    [
        (KeyboardInterrupt(), r"(The job keeps running|Stopped, together with the rehearsal)\. .*: python x"),
        (EndpointConnectionError(endpoint_url="https://x"), r"^Cannot reach AWS .*keeps running.*: python x$"),
    ],
    ids=["left", "lost"],
)
def test_whoever_leaves_a_job_learns_how_to_come_back(
    happened: BaseException, said: str, rehearsal: bool, launch: Launch
) -> None:
    account = Account(lambda service: None, replace(launch().sagemaker, rehearsal=rehearsal))
    with pytest.raises(UserError, match=said) as caught, Followed(account, "The job", "python x").explained():
        raise happened
    assert caught.value.exit_code == (130 if isinstance(happened, KeyboardInterrupt) else 2)


def test_the_reason_of_a_program_is_not_taken_for_one_of_aws() -> None:
    reason = {"TrainingJobStatus": "Failed", "FailureReason": "ClientError: Debugger(SageMaker Debugger, AccessDenied)"}
    assert not any(line.startswith("try") for line in summary(reason))
    assert "AWS has no free instances" in summary({**reason, "FailureReason": "CapacityError: none"})[-1]
    assert advice("something else") == ""


def test_hints_repeat_where_the_job_runs(launch: Launch) -> None:
    for rehearsal, region, tail in (
        (True, "us-east-1", " sagemaker=rehearsal"),
        (False, "eu-west-1", " sagemaker.region=eu-west-1"),
        (False, None, ""),
    ):
        settings = replace(launch().sagemaker, rehearsal=rehearsal, region=region)
        account = Account(lambda service: None, settings)
        assert account.command("launch", "attach=job") == f"python launch_sagemaker.py attach=job{tail}"


def test_hints_repeat_whose_bucket_it_is_and_where_something_begins(launch: Launch) -> None:
    typed = ["bucket=theirs", "bucket_owner='012345678901'", "role=trainer", "prefix=cats"]
    settings = launch(*(f"sagemaker.{one}" for one in typed)).sagemaker
    account = Account(lambda service: None, replace(settings, region=None))
    assert account.command("launch", "attach=job").endswith("attach=job sagemaker.bucket_owner=012345678901")
    begins = account.command("launch", "best_of=search", begins=True)
    again = launch(*begins.split("best_of=search ")[1].split()).sagemaker
    assert replace(again, region=None) == account.settings

"""What is said of a job that is followed, and of one that has ended."""

from __future__ import annotations

import pytest
from botocore.exceptions import EndpointConnectionError

from dogbreeds.errors import UserError
from dogbreeds.sagemaker.launch.follow import status_of, summary
from dogbreeds.sagemaker.launch.launcher import LONGEST_JOB, LONGEST_TUNING_JOB, job_name, leaving
from dogbreeds.sagemaker.session import Session


def test_names_of_jobs_fit() -> None:
    for longest in (LONGEST_JOB, LONGEST_TUNING_JOB):
        name = job_name("a-prefix-that-is-far-too-long-for-any-name-of-any-job-at-all-really", longest)
        assert len(name) <= longest and "--" not in name
    assert job_name("dogbreeds", LONGEST_TUNING_JOB).startswith("dogbreeds-2")
    assert job_name("dogbreeds", LONGEST_JOB) != job_name("dogbreeds", LONGEST_JOB)


def test_a_status_has_its_phase_and_what_the_service_says() -> None:
    described = {
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Training",
        "SecondaryStatusTransitions": [{"Status": "Training", "StatusMessage": "In progress."}],
    }
    assert status_of(described) == "InProgress, Training: In progress."
    assert status_of({"TrainingJobStatus": "Stopped"}) == "Stopped"


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
        "time   100 s, 30 s billed, spot saved 70%",
    ]
    assert summary({**described, "EnableManagedSpotTraining": False})[-1] == "time   100 s, 30 s billed"


@pytest.mark.parametrize(
    ("happened", "said"),
    [
        (KeyboardInterrupt(), "The job goes on. Follow it again with: python launch_sagemaker.py attach=job"),
        (EndpointConnectionError(endpoint_url="https://x"), "AWS does not answer any more .*attach=job"),
    ],
    ids=["left", "lost"],
)
def test_whoever_leaves_a_job_is_told_how_to_come_back(happened: BaseException, said: str) -> None:
    session = Session(
        None,
        None,
        None,
        "eu-central-1",
        "role",
        "bucket",
        "on AWS",
        5.0,
        jobs_outlive=True,
        jobs_install=True,
        client=lambda service: None,
    )
    with pytest.raises(UserError, match=said), leaving("attach=job", session):
        raise happened

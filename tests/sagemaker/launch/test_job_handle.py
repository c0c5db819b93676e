"""A job that is begun, left, followed, stopped and fetched, while the service does what it does on a bad day."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    IncompleteReadError,
    NoRegionError,
    ParamValidationError,
)
from s3transfer.exceptions import RetriesExceededError

from dogbreeds.errors import Interrupted, UserError
from dogbreeds.sagemaker import following
from dogbreeds.sagemaker.aws_errors import aws_errors, passes
from dogbreeds.sagemaker.launch.begun import directory_of, finished
from dogbreeds.sagemaker.launch.job_handle import TRAINING, TUNING, JobHandle, results_of
from dogbreeds.sagemaker.launch.launcher import Launcher, RefusedError
from dogbreeds.sagemaker.launch.tuning import trials_of
from dogbreeds.sagemaker.session import Account
from tests.local_sagemaker.jobs import BUCKET, training_job, tuning_job, upload_code
from tests.sagemaker.conftest import Launch
from tests.sagemaker.launch.conftest import AccountWith, Interrupting

SCRIPT = "print('the first line'); print('val/loss=0.5'); print('the last line')"
FOREVER = "import time; print('waiting', flush=True); time.sleep(600)"
TRIALS = 2


def request_of(account: Account, kind: str = TRAINING, script: str = SCRIPT, name: str = "job-1") -> dict[str, Any]:
    code = upload_code(account.s3, script)
    if kind == TRAINING:
        return training_job(name, code)
    limits = {"MaxNumberOfTrainingJobs": TRIALS, "MaxParallelTrainingJobs": 2}
    return tuning_job(name, code, {"ResourceLimits": limits})


def begun(account: Account, kind: str = TRAINING, script: str = SCRIPT, name: str = "job-1") -> JobHandle:
    launcher = Launcher.of(account, Path())
    return launcher.begin(kind, request_of(account, kind, script, name), Path("search"), lambda name: None)


def jobs_of(account: Account, kind: str) -> list[str]:
    names = [f"job-{number}" for number in range(1, 60)]
    return [name for name in names if JobHandle(account, name, kind).exists()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [TRAINING, TUNING])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whenever_a_command_is_left_the_same_again_begins_no_second_job(
    kind: str, after: bool, account_with: AccountWith
) -> None:
    """Each request is a moment: what is done between two of them is on this machine and done again."""
    account = account_with()
    left = 0
    for moment in range(4):
        name = f"job-{moment + 1}"
        script = f"{SCRIPT}  # {moment}"
        request = request_of(account, kind, script, name)
        broken = replace(account, client=Interrupting(account.client, moment, after=after))
        try:
            Launcher.of(broken, Path()).begin(kind, request, Path("search"), lambda name: None).wait()
        except (KeyboardInterrupt, Interrupted):
            left += 1
        # Typed again, it asks for a name of its own.
        request = request_of(account, kind, script, f"job-{50 + moment}")
        job = Launcher.of(account, Path()).begin(kind, request, Path("search"), lambda name: None)
        assert job.wait()[f"{kind}Status"] == "Completed"
        assert job.name == name
        if kind == TUNING:
            assert len(trials_of(job)) == TRIALS
        finished(job.name)
    assert left >= 2
    assert jobs_of(account, kind) == [f"job-{moment + 1}" for moment in range(4)]


def test_a_search_whose_results_are_here_begins_anew(account_with: AccountWith) -> None:
    account = account_with()
    first = begun(account)
    first.wait()
    # Done, but nobody has fetched it.
    assert begun(account, name="job-2").name == first.name
    finished(first.name)
    assert begun(account, name="job-3").name == "job-3"
    assert directory_of("job-1") == Path("search").absolute()


def test_a_stopped_job_begins_anew(account_with: AccountWith) -> None:
    account = account_with()
    first = begun(account, script=FOREVER)
    first.stop()
    assert begun(account, script=FOREVER, name="job-2").name == "job-2"


def test_a_lost_answer_to_the_request_for_a_job_is_no_refusal(account_with: AccountWith) -> None:
    account = account_with(lost_answers={"CreateTrainingJob": 1})
    assert begun(account).wait()["TrainingJobStatus"] == "Completed"


def test_a_broken_connection_there_names_the_job(account_with: AccountWith) -> None:
    account = account_with()

    def breaks(request: Any, **_: Any) -> None:
        raise EndpointConnectionError(endpoint_url=request.url)

    broken = replace(account)
    broken.sagemaker.meta.events.register("before-send.sagemaker.CreateTrainingJob", breaks)
    with pytest.raises(UserError, match=r"Cannot start the job .*may have begun all the same: .*attach=job-1 "):
        begun(broken)


def test_a_refused_job_is_forgotten(account_with: AccountWith) -> None:
    account = account_with(debugger_closed=True)
    request = request_of(account) | {"DebugHookConfig": {"S3OutputPath": f"s3://{BUCKET}/jobs"}}
    noted: list[str] = []
    with pytest.raises(RefusedError, match=r"^Cannot start the job .*DebugHookConfig"):
        Launcher.of(account, Path()).begin(TRAINING, request, Path(), noted.append)
    assert noted == ["job-1"]
    assert begun(account, name="job-2").name == "job-2"


def test_lines_that_come_after_the_end_are_printed(
    account_with: AccountWith, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The log is quiet after two polls.
    monkeypatch.setattr(Account, "poll_seconds", 0.2)
    with caplog.at_level(logging.INFO):
        begun(account_with(late_logs_seconds=0.3)).wait()
    assert "  the last line" in caplog.messages


def test_without_rights_to_the_log_a_job_is_followed_and_fetched(
    account_with: AccountWith, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    job = begun(account_with(logs_denied=True))
    described = job.wait()
    assert described["TrainingJobStatus"] == "Completed"
    job.fetch(described, tmp_path / "run")
    assert caplog.text.count("Cannot read the log of job-1") == 1


@pytest.mark.parametrize("fault", ["throttled", "expired"])
@pytest.mark.parametrize("kind", [TRAINING, TUNING])
def test_what_passes_is_waited_for_and_said_once(
    fault: str,
    kind: str,
    account_with: AccountWith,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    account, go = account_with(), tmp_path / "go"
    # It does not end before it was asked for often enough.
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)\n"
    job = begun(account, kind, wait + SCRIPT)
    assert job.exists()
    calls = 0

    def refuses(**_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            go.touch()
        if 1 < calls < 5:
            code = {"throttled": "ThrottlingException", "expired": "ExpiredTokenException"}[fault]
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, f"Describe{kind}")

    def clients(service: str) -> Any:
        made = account.client(service)
        made.meta.events.register(f"before-call.sagemaker.Describe{kind}", refuses)
        return made

    job = replace(job, account=replace(account, client=clients))
    assert job.wait()[f"{kind}Status"] == "Completed"
    assert caplog.text.count("waiting for it") == 1
    assert {"throttled": "too many requests", "expired": "get new ones"}[fault] in caplog.text


def test_after_long_it_gives_up_and_names_the_job(account_with: AccountWith, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_PATIENCE_SECONDS", 0.0)
    job = begun(account_with(expired={"ListTrainingJobsForHyperParameterTuningJob": 1000}), TUNING)
    job.wait()
    with pytest.raises(UserError, match=r"have expired: get new ones\. Come back to it with: .*attach=job-1 "):
        trials_of(job)


def test_renewed_credentials_are_picked_up(
    account_with: AccountWith, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = account_with()
    file = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_ENDPOINT_URL", local.sagemaker.meta.endpoint_url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    file.write_text("[default]\naws_access_key_id=old\naws_secret_access_key=old\n")
    account = Account(boto3.Session(region_name="us-east-1").client, launch().sagemaker)
    with pytest.raises(ClientError):
        account.client("sts").get_caller_identity()
    known = re.search(r'"key": "(\w+)"', (Path(local.settings.rehearsal_dir) / "service.json").read_text())
    assert known is not None
    file.write_text(f"[default]\naws_access_key_id={known[1]}\naws_secret_access_key={known[1]}\n")
    with pytest.raises(ClientError):
        account.client("sts").get_caller_identity()
    account.renew()
    account.client("sts").get_caller_identity()


def test_what_passes_by_itself() -> None:
    def answered(code: str, status: int) -> ClientError:
        return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Describe")

    assert passes(answered("ThrottlingException", 400)) and passes(answered("InternalFailure", 503))
    assert passes(EndpointConnectionError(endpoint_url="https://x"))
    assert not passes(answered("AccessDeniedException", 403)) and not passes(None)
    # HEAD has no body: these credentials have expired.
    assert passes(answered("400", 400)) and not passes(answered("ValidationException", 400))
    assert passes(RetriesExceededError(IncompleteReadError(actual_bytes=1, expected_bytes=2)))
    assert passes(CredentialRetrievalError(provider="sso", error_msg="x"))
    assert not passes(ParamValidationError(report="x")) and not passes(NoRegionError())


def test_what_broke_is_said() -> None:
    head = ClientError({"Error": {"Code": "400", "Message": "Bad Request"}}, "HeadObject")
    for error, said in (
        (head, "have probably expired"),
        (RetriesExceededError(TimeoutError("slow")), r"connection broke: slow\)\. Check the network"),
    ):
        with pytest.raises(UserError, match=said), aws_errors("read it"):
            raise error


def test_all_that_uses_an_account_gets_its_new_credentials(account_with: AccountWith) -> None:
    launcher = Launcher.of(account_with(), Path())
    job, former = JobHandle(launcher.account, "job-1"), (launcher.account.s3, launcher.account.sagemaker)
    asked: list[Any] = []

    def question() -> None:
        asked.append((launcher.storage._client, job.account.sagemaker))
        if len(asked) == 1:
            raise ClientError({"Error": {"Code": "ExpiredToken", "Message": "no"}}, "PutObject")

    assert launcher.storage._client is former[0]
    job.followed.ask(question)
    assert asked[0] == former and asked[1][0] is not former[0] and asked[1][1] is not former[1]


@pytest.mark.parametrize("kind", [TRAINING, TUNING])
def test_stop_says_how_an_ended_job_ended(kind: str, account_with: AccountWith) -> None:
    account = account_with()
    job = begun(account, kind)
    job.wait()
    found = JobHandle.find(account, job.name)
    assert found.kind == kind
    assert found.stop().startswith("status Completed")


@pytest.mark.parametrize("kind", [TRAINING, TUNING])
def test_stop_stops_and_says_how_to_fetch(kind: str, account_with: AccountWith) -> None:
    job = begun(account_with(), kind, FOREVER)
    time.sleep(0.1)
    said = job.stop()
    assert said.startswith("Stopping job-1;") and "attach=job-1" in said
    assert job.wait()[f"{kind}Status"] == "Stopped"


def test_a_name_that_nobody_has_is_said_whatever_its_length(account_with: AccountWith) -> None:
    account = account_with()
    for name in ("nobody", 60 * "n"):
        with pytest.raises(UserError, match=f"No training job named {name} rehearsed on this machine"):
            JobHandle.find(account, name)


def test_results_are_found_of_jobs_of_every_kind(launch: Launch) -> None:
    account, made = (
        Account(lambda service: None, launch().sagemaker),
        {"OutputDataConfig": {"S3OutputPath": "s3://a/b"}},
    )
    for described in (made, {"TrainingJobDefinition": made}, {"TrainingJobDefinitions": [made, {}]}):
        assert results_of(account, described)[0] == "s3://a/b"


def test_hints_name_what_was_typed_for_the_rehearsal_and_no_more(account_with: AccountWith) -> None:
    job = JobHandle(account_with(), "job-1")
    place = Path(job.account.settings.rehearsal_dir)
    typed = job.hint("attach")
    assert typed.startswith("python launch_sagemaker.py attach=job-1 sagemaker=rehearsal 'sagemaker.rehearsal_dir=")
    assert str(place) in typed and typed.count("=") == 3

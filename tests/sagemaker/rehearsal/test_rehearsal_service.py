from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from dogbreeds.errors import UserError
from dogbreeds.sagemaker.rehearsal import Rehearsal, clear
from tests.sagemaker.rehearsal.conftest import FAST_TRAIN, NO_FAULTS, Begin
from tests.sagemaker.rehearsal.jobs import (
    BUCKET,
    is_gone,
    log_lines,
    refusal,
    script_pid,
    training_job,
    upload_code,
    wait_for,
)
from tests.sagemaker.rehearsal.serving import archive, model

pytestmark = pytest.mark.slow

WAITING = "import os, time; print('waiting', os.getpid(), flush=True); time.sleep(300)"


def started(rehearsal: Rehearsal, name: str) -> int:
    """Runs a job that waits, and returns the process id of its script."""
    code = upload_code(rehearsal.client("s3"), WAITING)
    rehearsal.client("sagemaker").create_training_job(**training_job(name, code))
    return script_pid(rehearsal.client("logs"), name)


def test_objects_jobs_and_logs_outlive_the_rehearsal(tmp_path: Path) -> None:
    content = os.urandom(9 << 20)
    file = tmp_path / "large.bin"
    file.write_bytes(content)
    with Rehearsal(tmp_path / "kept", NO_FAULTS, toolkit=FAST_TRAIN) as rehearsal:
        s3 = rehearsal.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.create_bucket(Bucket="emptied")
        # More than boto3 sends in one piece.
        s3.upload_file(str(file), BUCKET, "large.bin", ExtraArgs={"Metadata": {"breed": "pug"}})
        s3.put_object(Bucket=BUCKET, Key="photos/Größe & mehr?.jpg", Body=b"photo", ContentType="image/jpeg")
        for key in ("gone", "also gone", "overwritten"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"old")
        s3.put_object(Bucket=BUCKET, Key="overwritten", Body=b"new")
        s3.copy_object(Bucket=BUCKET, Key="copied", CopySource=f"{BUCKET}/overwritten")
        s3.delete_object(Bucket=BUCKET, Key="gone")
        s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "also gone"}]})
        s3.delete_bucket(Bucket="emptied")
        before = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        code = upload_code(s3, "print('val/loss=0.25')")
        rehearsal.client("sagemaker").create_training_job(**training_job("kept", code))
        wait_for(rehearsal.client("sagemaker"), "kept")
    with Rehearsal(tmp_path / "kept", NO_FAULTS, toolkit=FAST_TRAIN) as rehearsal:
        s3 = rehearsal.client("s3")
        assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [BUCKET]
        after = [
            each for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"] if not each["Key"].startswith("code/")
        ]
        assert [(each["Key"], each["ETag"], each["Size"]) for each in after] == [
            (each["Key"], each["ETag"], each["Size"]) for each in before
        ]
        found = s3.get_object(Bucket=BUCKET, Key="large.bin")
        assert hashlib.sha256(found["Body"].read()).digest() == hashlib.sha256(content).digest()
        assert found["Metadata"] == {"breed": "pug"}
        assert s3.head_object(Bucket=BUCKET, Key="photos/Größe & mehr?.jpg")["ContentType"] == "image/jpeg"
        assert s3.get_object(Bucket=BUCKET, Key="copied")["Body"].read() == b"new"
        job = rehearsal.client("sagemaker").describe_training_job(TrainingJobName="kept")
        assert (job["TrainingJobStatus"], job["FinalMetricDataList"][0]["Value"]) == ("Completed", 0.25)
        assert "val/loss=0.25" in log_lines(rehearsal.client("logs"), "kept")


def test_nothing_runs_after_the_end(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with Rehearsal(tmp_path / "ended", NO_FAULTS, toolkit=FAST_TRAIN) as rehearsal:
        rehearsal.client("s3").create_bucket(Bucket=BUCKET)
        pid = started(rehearsal, "running")
    assert is_gone(pid)
    assert set(threading.enumerate()) == before
    with Rehearsal(tmp_path / "ended", NO_FAULTS, toolkit=FAST_TRAIN) as rehearsal:
        job = rehearsal.client("sagemaker").describe_training_job(TrainingJobName="running")
        assert job["TrainingJobStatus"] == "Failed"
        assert "the rehearsal ended" in job["FailureReason"]


@pytest.mark.slow
def test_a_rehearsal_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from tests.sagemaker.rehearsal.test_rehearsal_service import BUCKET, FAST_TRAIN, NO_FAULTS, Rehearsal, started
with Rehearsal(Path({str(tmp_path / "killed")!r}), NO_FAULTS, toolkit=FAST_TRAIN) as rehearsal:
    rehearsal.client("s3").create_bucket(Bucket=BUCKET)
    print(started(rehearsal, "orphan"), flush=True)
    time.sleep(300)
"""
    other = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
    assert other.stdout is not None
    try:
        pid = int(other.stdout.readline())
        with (
            pytest.raises(UserError, match=r"Another rehearsal uses .*killed"),
            Rehearsal(tmp_path / "killed", NO_FAULTS, toolkit=FAST_TRAIN),
        ):
            pass
        with pytest.raises(UserError, match="Another rehearsal"):
            clear(tmp_path / "killed")
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
        other.stdout.close()
    assert psutil.pid_exists(pid)
    with Rehearsal(tmp_path / "killed", NO_FAULTS, toolkit=FAST_TRAIN) as rehearsal:
        assert is_gone(pid)
        assert not (tmp_path / "killed" / "machines").exists()
        job = rehearsal.client("sagemaker").describe_training_job(TrainingJobName="orphan")
        assert job["TrainingJobStatus"] == "Failed"


def test_clear_removes_a_rehearsal_and_nothing_else(tmp_path: Path) -> None:
    with Rehearsal(tmp_path / "cleared", NO_FAULTS):
        pass
    clear(tmp_path / "cleared")
    assert not (tmp_path / "cleared").exists()
    clear(tmp_path / "cleared")
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="not the directory of a rehearsal"):
        clear(tmp_path / "photos")
    assert (tmp_path / "photos").exists()


def test_one_at_a_time_in_a_process(begin: Begin, tmp_path: Path) -> None:
    begin()
    with pytest.raises(UserError, match="open in this process"), Rehearsal(tmp_path / "other", NO_FAULTS):
        pass


def test_requests_cannot_go_past_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localhost:4566")
    with pytest.raises(UserError, match="unset AWS_ENDPOINT_URL_S3"), Rehearsal(tmp_path / "x", NO_FAULTS):
        pass


def test_sessions_need_nothing_of_the_person(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "work")
    rehearsal = begin()
    assert rehearsal.client("sts").get_caller_identity()["Account"] == "123456789012"
    role = rehearsal.client("iam").get_role(RoleName="dogbreeds")["Role"]["Arn"]
    assert role == "arn:aws:iam::123456789012:role/dogbreeds"
    assert rehearsal.session("eu-central-1").client("sagemaker").list_models()["Models"] == []


def test_lists_come_in_pages(begin: Begin) -> None:
    rehearsal = begin()
    sagemaker = rehearsal.client("sagemaker")
    archived = archive(rehearsal.client)
    for name in ("b-1", "a-1", "a-2", "c-1"):
        sagemaker.create_model(**model(name, archived))
    pages = sagemaker.get_paginator("list_models").paginate(MaxResults=3)
    names = [[each["ModelName"] for each in page["Models"]] for page in pages]
    assert names == [["c-1", "a-2", "a-1"], ["b-1"]]
    found = sagemaker.list_models(NameContains="A-", SortOrder="Ascending")["Models"]
    assert [each["ModelName"] for each in found] == ["a-1", "a-2"]
    assert "not rehearsed" in refusal(sagemaker.list_models, SortBy="Name")[1]
    assert "not rehearsed" in refusal(sagemaker.list_models, CreationTimeAfter=datetime(2026, 1, 1))[1]


def test_logs_come_in_pages_both_ways(begin: Begin) -> None:
    rehearsal = begin()
    logs, sagemaker = rehearsal.client("logs"), rehearsal.client("sagemaker")
    code = upload_code(rehearsal.client("s3"), "for n in range(50): print('line', n)")
    sagemaker.create_training_job(**training_job("chatty", code))
    wait_for(sagemaker, "chatty")
    group = "/aws/sagemaker/TrainingJobs"
    (stream,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="chatty/")["logStreams"]
    place = {"logGroupName": group, "logStreamName": stream["logStreamName"]}
    whole = log_lines(logs, "chatty")
    assert [line for line in whole if line.startswith("line ")] == [f"line {number}" for number in range(50)]
    read, token = [], None
    while True:
        page = logs.get_log_events(**place, limit=20, startFromHead=True, **({"nextToken": token} if token else {}))
        read += [event["message"] for event in page["events"]]
        if page["nextForwardToken"] == token:
            break
        token = page["nextForwardToken"]
    assert read == whole
    last = logs.get_log_events(**place, limit=5)
    assert [event["message"] for event in last["events"]] == whole[-5:]
    before = logs.get_log_events(**place, limit=5, nextToken=last["nextBackwardToken"])
    assert [event["message"] for event in before["events"]] == whole[-10:-5]


def test_parts_of_objects_are_those_parts(begin: Begin) -> None:
    s3 = begin().client("s3")
    s3.put_object(Bucket=BUCKET, Key="dog", Body=b"0123456789", Metadata={"breed": "pug"}, ContentType="text/plain")

    def part(asked: str) -> tuple[bytes, str]:
        found = s3.get_object(Bucket=BUCKET, Key="dog", Range=asked)
        assert found["Metadata"] == {"breed": "pug"} and found["ContentType"] == "text/plain"
        return found["Body"].read(), found["ContentRange"]

    assert part("bytes=2-4") == (b"234", "bytes 2-4/10")
    assert part("bytes=7-") == (b"789", "bytes 7-9/10")
    assert part("bytes=-2") == (b"89", "bytes 8-9/10")
    assert refusal(s3.get_object, Bucket=BUCKET, Key="dog", Range="bytes=20-")[0] in ("InvalidRange", "416")
    whole = s3.get_object(Bucket=BUCKET, Key="dog")
    assert (whole["Body"].read(), whole["ContentLength"]) == (b"0123456789", 10)
    assert refusal(s3.get_object, Bucket=BUCKET, Key="cat")[0] == "NoSuchKey"
    assert refusal(s3.get_object, Bucket=BUCKET, Key="dog", IfMatch='"other"')[0] in ("PreconditionFailed", "412")

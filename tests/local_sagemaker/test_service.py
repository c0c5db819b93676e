from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from botocore.config import Config

from local_sagemaker import Faults, LocalSageMaker, LocalSageMakerError, connect, running, stop
from local_sagemaker.client import PYTHON, Client, _found
from tests.local_sagemaker.conftest import FAST_TRAIN, NO_FAULTS, Begin
from tests.local_sagemaker.jobs import (
    BUCKET,
    PATIENCE_SECONDS,
    is_gone,
    log_lines,
    refusal,
    script_pid,
    training_job,
    upload_code,
    wait_for,
)
from tests.local_sagemaker.serving.fakes import archive, model

pytestmark = pytest.mark.slow

WAITING = "import os, time; print('waiting', os.getpid(), flush=True); time.sleep(300)"


def started(local: LocalSageMaker, name: str) -> int:
    """Runs a job that waits, and returns the process id of its script."""
    code = upload_code(local.client("s3"), WAITING)
    local.client("sagemaker").create_training_job(**training_job(name, code))
    return script_pid(local.client("logs"), name)


def test_nothing_runs_or_stays_after_the_end(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with LocalSageMaker(tmp_path / "ended", NO_FAULTS, toolkit=FAST_TRAIN) as local:
        local.client("s3").create_bucket(Bucket=BUCKET)
        pid = started(local, "running")
    assert is_gone(pid)
    # Threads of an earlier test may end meanwhile.
    assert set(threading.enumerate()) <= before
    assert [path.name for path in (tmp_path / "ended").iterdir()] == ["lock"]


def test_jobs_of_a_killed_service_end_with_the_next(tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from tests.local_sagemaker.test_service import BUCKET, FAST_TRAIN, NO_FAULTS, LocalSageMaker, started
with LocalSageMaker(Path({str(tmp_path / "killed")!r}), NO_FAULTS, toolkit=FAST_TRAIN) as local:
    local.client("s3").create_bucket(Bucket=BUCKET)
    print(started(local, "orphan"), flush=True)
    time.sleep(300)
"""
    other = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert other.stdout is not None
    try:
        pid = int(other.stdout.readline())
        with (
            pytest.raises(LocalSageMakerError, match=r"Another service uses .*killed"),
            LocalSageMaker(tmp_path / "killed", NO_FAULTS, toolkit=FAST_TRAIN),
        ):
            pass
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
        other.stdout.close()
    assert psutil.pid_exists(pid)
    with LocalSageMaker(tmp_path / "killed", NO_FAULTS, toolkit=FAST_TRAIN):
        assert is_gone(pid)
        assert not (tmp_path / "killed" / "machines").exists()


def test_a_service_stays_up_until_it_is_stopped(tmp_path: Path) -> None:
    place = tmp_path / "background"
    try:
        first = connect(place, Faults(throttled={"ListModels": 1}), idle_minutes=5)
        assert (place / "service.json").stat().st_mode & 0o077 == 0
        assert refusal(first.client("sagemaker", config=Config(retries={"total_max_attempts": 1})).list_models)[0] == (
            "ThrottlingException"
        )
        first.client("s3").create_bucket(Bucket=BUCKET)
        again = connect(place, Faults(), idle_minutes=5)
        assert (again.url, again.key) == (first.url, first.key)
        assert [one["Name"] for one in again.client("s3").list_buckets()["Buckets"]] == [BUCKET]
        assert place in [directory for _, directory in running()]
        assert first.key not in (place / "service.log").read_text()
        named = [sys.executable, "-m", "local_sagemaker", "--directory", os.path.relpath(place)]
        assert str(place) in subprocess.run([*named, "--list"], capture_output=True, text=True, check=True).stdout
    finally:
        ended = subprocess.run([*named, "--stop"], capture_output=True, text=True, check=False)
    assert ended.stdout == "Stopped.\n"
    assert not stop(place)
    assert place not in [directory for _, directory in running()]
    assert sorted(path.name for path in place.iterdir()) == ["lock", "service.log", "starting.lock"]


def test_an_idle_service_ends(tmp_path: Path) -> None:
    alone = [sys.executable, "-m", "local_sagemaker", "--idle-minutes", "0", "--directory"]
    # The process of a command that has not asked for long keeps it up.
    (tmp_path / "used" / "clients").mkdir(parents=True)
    (tmp_path / "used" / "clients" / str(os.getpid())).touch()
    kept = subprocess.Popen([*alone, str(tmp_path / "used")], stdout=subprocess.PIPE)
    assert kept.stdout is not None
    with kept.stdout:
        try:
            assert kept.stdout.readline()
            # While it starts, waits a second and ends, the other one looks whether it is idle.
            subprocess.run([*alone, str(tmp_path / "idle"), "--quiet"], timeout=PATIENCE_SECONDS, check=True)
            assert kept.poll() is None
        finally:
            kept.terminate()
            assert kept.wait(PATIENCE_SECONDS) == 0


def test_only_who_knows_the_key_is_answered(begin: Begin) -> None:
    local = begin()
    stranger = Client(local.url, "0" * 32)
    assert refusal(stranger.client("s3").list_buckets)[0] == "InvalidAccessKeyId"
    assert stranger.process() is None
    assert requests.get(f"{local.url}/{BUCKET}", timeout=10).status_code == 403


def test_proxies_are_not_asked(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert begin().client("s3").list_buckets()["Buckets"][0]["Name"] == BUCKET


@pytest.mark.parametrize(("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_regions_of_other_partitions(begin: Begin, region: str, partition: str) -> None:
    local = begin()
    local.client("s3", region).create_bucket(
        Bucket="elsewhere", CreateBucketConfiguration={"LocationConstraint": region}
    )
    role = local.client("iam", region).get_role(RoleName="local-sagemaker")["Role"]["Arn"]
    assert role.startswith(f"arn:{partition}:")
    code = upload_code(local.client("s3", region), "print('here')", bucket="elsewhere")
    sagemaker = local.client("sagemaker", region)
    made = sagemaker.create_training_job(
        **training_job("far", code, RoleArn=role, OutputDataConfig={"S3OutputPath": "s3://elsewhere/jobs"})
    )
    assert made["TrainingJobArn"].startswith(f"arn:{partition}:sagemaker:{region}:")
    assert wait_for(sagemaker, "far")["TrainingJobStatus"] == "Completed"


def test_one_at_a_time_in_a_process(begin: Begin, tmp_path: Path) -> None:
    begin()
    with (
        pytest.raises(LocalSageMakerError, match="open in this process"),
        LocalSageMaker(tmp_path / "other", NO_FAULTS),
    ):
        pass


def test_requests_cannot_go_past_it(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localhost:4566")
    assert begin().client("s3").list_buckets()["Buckets"][0]["Name"] == BUCKET


def test_sessions_need_nothing_of_the_person(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "work")
    local = begin()
    assert local.client("sts").get_caller_identity()["Account"] == "123456789012"
    assert local.role_arn == "arn:aws:iam::123456789012:role/local-sagemaker"
    assert local.session("eu-central-1").client("sagemaker").list_models()["Models"] == []


def test_lists_come_in_pages(begin: Begin) -> None:
    local = begin()
    sagemaker = local.client("sagemaker")
    archived = archive(local.client)
    for name in ("b-1", "a-1", "a-2", "c-1"):
        sagemaker.create_model(**model(name, archived))
    pages = sagemaker.get_paginator("list_models").paginate(MaxResults=3)
    names = [[each["ModelName"] for each in page["Models"]] for page in pages]
    assert names == [["c-1", "a-2", "a-1"], ["b-1"]]
    found = sagemaker.list_models(NameContains="A-", SortOrder="Ascending")["Models"]
    assert [each["ModelName"] for each in found] == ["a-1", "a-2"]
    assert "not emulated" in refusal(sagemaker.list_models, SortBy="Name")[1]
    assert "not emulated" in refusal(sagemaker.list_models, CreationTimeAfter=datetime(2026, 1, 1))[1]


def test_logs_come_in_pages_both_ways(begin: Begin) -> None:
    local = begin()
    logs, sagemaker = local.client("logs"), local.client("sagemaker")
    code = upload_code(local.client("s3"), "for n in range(50): print('line', n)")
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


def test_a_service_of_another_environment_is_not_taken(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin()
    place, address = tmp_path / "rehearsal", tmp_path / "rehearsal" / "service.json"
    # In one environment there are python, python3 and the scripts of packages.
    monkeypatch.setattr(sys, "executable", f"{sys.executable}3")
    assert connect(place, Faults(), idle_minutes=5).process() == os.getpid()
    address.write_text(address.read_text().replace(PYTHON, "/usr/lib/python3"))
    with pytest.raises(LocalSageMakerError, match=r"the packages of /usr/lib/python3\. End it first: .*--stop"):
        connect(place, Faults(), idle_minutes=5)


def test_an_address_of_nobody_is_not_taken(tmp_path: Path) -> None:
    for content in ("", "{}", '{"url": "http://127.0.0.1:9", "key": "k", "pid": 1, "python": "p"}'):
        (tmp_path / "service.json").write_text(content)
        assert _found(tmp_path) is None
    try:
        assert connect(tmp_path, Faults(), idle_minutes=5).process() is not None
    finally:
        stop(tmp_path)


@pytest.mark.parametrize(
    ("faults", "said"),
    [({"throttled": 3}, "takes counts by operation"), ({"capacity_errors": "abc"}, "must be a number")],
)
def test_wrong_faults_are_refused(faults: dict[str, Any], said: str) -> None:
    with pytest.raises(LocalSageMakerError, match=said):
        Faults(**faults)


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalSageMakerError, match="file cannot be used"):
        connect(tmp_path / "file", Faults(), idle_minutes=5)


def test_requests_to_s3_expire_too(begin: Begin) -> None:
    local = begin()
    local.set_faults(Faults(expired={"s3": 1}))
    assert refusal(local.client("s3").list_buckets)[0] == "ExpiredToken"
    assert local.client("s3").list_buckets()["Buckets"]

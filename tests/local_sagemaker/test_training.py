from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_sagemaker import LocalSageMaker
from local_sagemaker.training.toolkit import TRAIN
from tests.local_sagemaker.conftest import Begin
from tests.local_sagemaker.jobs import (
    BUCKET,
    PATIENCE_SECONDS,
    answer_problems,
    is_gone,
    log_lines,
    script_pid,
    training_job,
    upload_code,
    wait_for,
)

pytestmark = pytest.mark.slow

SCRIPT = """
import json, os, sys
from pathlib import Path
channel = Path(os.environ["SM_CHANNEL_PHOTOS"])
print("found", sorted(str(path.relative_to(channel)) for path in channel.rglob("*") if path.is_file()))
print("hyperparameters", os.environ["SM_HPS"])
print("threads", os.environ["OMP_NUM_THREADS"], "colour", os.environ["COLOUR"])
print("inside", all(os.environ["SAGEMAKER_BASE_DIR"] in os.environ[name] for name in os.environ
    if name.startswith(("SM_MODEL_DIR", "SM_OUTPUT", "SM_INPUT_DIR", "SM_CHANNEL_", "DOGBREEDS_"))))
for epoch in (1, 2):
    print(f"epoch {epoch} val/loss={1 / epoch}", flush=True)
print("val/loss=nan", file=sys.stderr)
Path(os.environ["SM_MODEL_DIR"], "weights.bin").write_text("weights")
Path(os.environ["SM_OUTPUT_DATA_DIR"], "charts").mkdir()
Path(os.environ["SM_OUTPUT_DATA_DIR"], "charts", "loss.csv").write_text("1,0.5")
Path(os.environ["LOCAL_SAGEMAKER_CHECKPOINT_DIR"], "last.ckpt").write_text("two epochs")
"""
WAITING = """
import os, time
from pathlib import Path
Path(os.environ["SM_OUTPUT_DATA_DIR"], "pid").write_text(str(os.getpid()))
print("waiting", os.getpid(), flush=True)
time.sleep(300)
"""


def channel(prefix: str, name: str = "photos", **members: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{prefix}", **members}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def create(local: LocalSageMaker, name: str, script: str, **members: Any) -> None:
    code = upload_code(local.client("s3"), script)
    local.client("sagemaker").create_training_job(**training_job(name, code, **members))


def archive(local: LocalSageMaker, key: str) -> dict[str, bytes]:
    body = local.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


def statuses(job: dict[str, Any]) -> list[str]:
    return [transition["Status"] for transition in job["SecondaryStatusTransitions"]]


def test_a_job_runs_and_its_outputs_are_in_s3(begin: Begin) -> None:
    local = begin(TRAIN)
    s3, sagemaker = local.client("s3"), local.client("sagemaker")
    for key in ("a/1.jpg", "b/2.jpg"):
        s3.put_object(Bucket=BUCKET, Key=f"photos/{key}", Body=b"photo")
    create(
        local,
        "whole",
        SCRIPT,
        HyperParameters={"lr": "0.1", "model.backbone": '"resnet18"'},
        InputDataConfig=[channel("photos")],
        Environment={"COLOUR": "red", "OMP_NUM_THREADS": "1"},
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/jobs/whole/checkpoints"},
    )
    job = wait_for(sagemaker, "whole")

    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert statuses(job) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all("EndTime" in transition for transition in job["SecondaryStatusTransitions"])
    lines = log_lines(local.client("logs"), "whole")
    assert "found ['a/1.jpg', 'b/2.jpg']" in lines
    assert json.loads(next(line for line in lines if line.startswith("hyperparameters"))[16:]) == {
        "lr": 0.1,
        "model.backbone": "resnet18",
    }
    assert "threads 1 colour red" in lines
    assert "inside True" in lines
    assert [(each["MetricName"], each["Value"]) for each in job["FinalMetricDataList"]] == [("val/loss", 0.5)]
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/jobs/whole/output/model.tar.gz"
    assert archive(local, "jobs/whole/output/model.tar.gz") == {"weights.bin": b"weights"}
    assert archive(local, "jobs/whole/output/output.tar.gz") == {"charts/loss.csv": b"1,0.5"}
    assert s3.get_object(Bucket=BUCKET, Key="jobs/whole/checkpoints/last.ckpt")["Body"].read() == b"two epochs"
    assert 1 <= job["TrainingTimeInSeconds"] == job["BillableTimeInSeconds"]


def test_what_describe_answers_fits_the_service_model(begin: Begin) -> None:
    local = begin()
    create(local, "shape", "print('val/loss=1')")
    job = wait_for(local.client("sagemaker"), "shape")
    found = answer_problems("DescribeTrainingJob", {name: job[name] for name in job if name != "ResponseMetadata"})
    # A job that has made no model has none to name.
    assert found == 'Missing required parameter in input: "ModelArtifacts"'


def test_a_script_that_fails_says_why(begin: Begin) -> None:
    local = begin(TRAIN)
    create(
        local,
        "failing",
        """
import os, sys
from pathlib import Path
Path(os.environ["SM_OUTPUT_DATA_DIR"], "partial.txt").write_text("so far")
Path(os.environ["SM_MODEL_DIR"], "half").write_text("")
sys.exit(17)
""",
    )
    job = wait_for(local.client("sagemaker"), "failing")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    assert job["FailureReason"].startswith("AlgorithmError: ExecuteUserScriptError:\nExitCode 17")
    assert job["FailureReason"].endswith(", exit code: 1")
    assert archive(local, "jobs/failing/output/output.tar.gz") == {"partial.txt": b"so far"}
    assert "ModelArtifacts" not in job


def test_requirements_are_looked_up_and_not_installed(begin: Begin) -> None:
    local = begin()
    s3, sagemaker = local.client("s3"), local.client("sagemaker")
    script = "import os; print('requirements seen', os.path.exists('requirements.txt'))"
    good = upload_code(
        s3, script, requirements="# ours\n--no-cache-dir\nnumpy>1  # any\nnothing; python_version < '3'\n"
    )
    bad = upload_code(s3, script, requirements="numpy>=999\nno-such-package\n")
    sagemaker.create_training_job(**training_job("good", good))
    sagemaker.create_training_job(**training_job("bad", bad))
    assert wait_for(sagemaker, "good")["TrainingJobStatus"] == "Completed"
    assert "requirements seen False" in log_lines(local.client("logs"), "good")
    reason = wait_for(sagemaker, "bad")["FailureReason"]
    assert "numpy>=999" in reason and "no-such-package, which is not installed here" in reason


def test_code_that_is_not_there_fails_the_job(begin: Begin) -> None:
    local = begin()
    sagemaker = local.client("sagemaker")
    sagemaker.create_training_job(**training_job("codeless", f"s3://{BUCKET}/nowhere/sourcedir.tar.gz"))
    assert "nowhere/sourcedir.tar.gz, and there is no such object" in wait_for(sagemaker, "codeless")["FailureReason"]


def test_an_isolated_job_finds_its_code_in_a_channel(begin: Begin) -> None:
    local = begin()
    sagemaker = local.client("sagemaker")
    uri = upload_code(local.client("s3"), "print('val/loss=2')")
    far = training_job("far", uri, EnableNetworkIsolation=True)
    near = training_job("near", "/opt/ml/input/data/code/sourcedir.tar.gz", EnableNetworkIsolation=True)
    sagemaker.create_training_job(**far)
    sagemaker.create_training_job(**near, InputDataConfig=[channel(uri.removeprefix(f"s3://{BUCKET}/"), "code")])
    assert "without a network" in wait_for(sagemaker, "far")["FailureReason"]
    assert wait_for(sagemaker, "near")["TrainingJobStatus"] == "Completed"


def test_a_stopped_job_keeps_its_outputs_and_leaves_no_process(begin: Begin) -> None:
    local = begin(TRAIN, grace_seconds=0.5)
    sagemaker = local.client("sagemaker")
    create(local, "stopped", WAITING)
    pid = script_pid(local.client("logs"), "stopped")
    sagemaker.stop_training_job(TrainingJobName="stopped")
    job = wait_for(sagemaker, "stopped")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert statuses(job)[2:] == ["Training", "Stopping", "Uploading", "Stopped"]
    assert archive(local, "jobs/stopped/output/output.tar.gz") == {"pid": str(pid).encode()}
    assert is_gone(pid)
    with pytest.raises(ClientError, match="is in status Stopped"):
        sagemaker.stop_training_job(TrainingJobName="stopped")


def test_what_outlives_the_toolkit_has_time_to_end_by_itself(begin: Begin) -> None:
    local = begin(grace_seconds=60)
    create(
        local,
        "orphan",
        """
import os, time
from pathlib import Path
parent = os.getppid()
print("waiting", os.getpid(), flush=True)
while os.getppid() == parent:
    time.sleep(0.05)
Path(os.environ["SM_OUTPUT_DATA_DIR"], "farewell").write_text("in peace")
""",
    )
    script_pid(local.client("logs"), "orphan")
    local.client("sagemaker").stop_training_job(TrainingJobName="orphan")
    assert wait_for(local.client("sagemaker"), "orphan")["TrainingJobStatus"] == "Stopped"
    assert archive(local, "jobs/orphan/output/output.tar.gz") == {"farewell": b"in peace"}


def test_a_job_ends_at_its_longest_runtime(begin: Begin) -> None:
    local = begin()
    create(local, "long", WAITING, StoppingCondition={"MaxRuntimeInSeconds": 1})
    job = wait_for(local.client("sagemaker"), "long")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_an_interrupted_job_resumes_from_its_checkpoint(begin: Begin) -> None:
    local = begin(interrupt_on="epoch 3 is saved")
    create(
        local,
        "spot",
        """
import os, sys, time
from pathlib import Path
checkpoint = Path(os.environ["LOCAL_SAGEMAKER_CHECKPOINT_DIR"], "last.ckpt")
if checkpoint.exists():
    print("resumes from", checkpoint.read_text())
    # More than a second is trained, so that Spot's price makes a difference.
    time.sleep(1.1)
    sys.exit(0)
checkpoint.write_text("epoch 3")
Path(os.environ["SM_OUTPUT_DATA_DIR"], "lost").write_text("with the machine")
print("epoch 3 is saved", flush=True)
time.sleep(300)
""",
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600},
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/jobs/spot/checkpoints/", "LocalPath": "/opt/ml/checkpoints"},
    )
    job = wait_for(local.client("sagemaker"), "spot")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert statuses(job) == [
        *("Starting", "Downloading", "Training", "Interrupted", "Restarting"),
        *("Downloading", "Training", "Uploading", "Completed"),
    ]
    assert "resumes from epoch 3" in log_lines(local.client("logs"), "spot")
    assert job["BillableTimeInSeconds"] < job["TrainingTimeInSeconds"]
    keys = [each["Key"] for each in local.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="jobs/spot")["Contents"]]
    assert keys == ["jobs/spot/checkpoints/last.ckpt"]


def test_without_capacity_a_job_fails_and_the_next_one_runs(begin: Begin) -> None:
    local = begin(capacity_errors=1)
    create(local, "first", "")
    assert wait_for(local.client("sagemaker"), "first")["FailureReason"].startswith("CapacityError: ")
    create(local, "second", "")
    assert wait_for(local.client("sagemaker"), "second")["TrainingJobStatus"] == "Completed"


def test_the_hook_finds_its_settings_and_tensors_are_uploaded(begin: Begin) -> None:
    local = begin()
    create(
        local,
        "hooked",
        """
import json, os
from pathlib import Path
settings = json.loads(Path(os.environ["SMDEBUG_CONFIG_FILE_PATH"]).read_text())
print("collections", [each["CollectionName"] for each in settings["CollectionConfigurations"]])
Path(settings["LocalPath"], "events").mkdir(parents=True)
Path(settings["LocalPath"], "events", "0.tfevents").write_text("tensors")
""",
        DebugHookConfig={
            "S3OutputPath": f"s3://{BUCKET}/jobs",
            "CollectionConfigurations": [{"CollectionName": "losses"}],
        },
        DebugRuleConfigurations=[{"RuleConfigurationName": "Overfit", "RuleEvaluatorImage": "rules"}],
        ProfilerRuleConfigurations=[{"RuleConfigurationName": "ProfilerReport", "RuleEvaluatorImage": "rules"}],
        ProfilerConfig={"S3OutputPath": f"s3://{BUCKET}/jobs", "ProfilingIntervalInMilliseconds": 500},
    )
    job = wait_for(local.client("sagemaker"), "hooked")
    assert "collections ['losses']" in log_lines(local.client("logs"), "hooked")
    tensors = local.client("s3").get_object(Bucket=BUCKET, Key="jobs/hooked/debug-output/events/0.tfevents")
    assert tensors["Body"].read() == b"tensors"
    for status in (*job["DebugRuleEvaluationStatuses"], *job["ProfilerRuleEvaluationStatuses"]):
        assert status["RuleEvaluationStatus"] == "NoIssuesFound"
        assert "Not evaluated" in status["StatusDetails"]


def test_nothing_of_a_job_remains_outside_s3(begin: Begin, tmp_path: Path) -> None:
    local = begin()
    create(local, "tidy", "import pathlib; pathlib.Path.home().joinpath('.cache').mkdir()")
    assert wait_for(local.client("sagemaker"), "tidy")["TrainingJobStatus"] == "Completed"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while list((tmp_path / "rehearsal" / "machines").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list((tmp_path / "rehearsal" / "machines").iterdir()) == []


# --- several hosts


def on(count: int) -> dict[str, Any]:
    return {"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": count, "VolumeSizeInGB": 30}}


def streams(local: LocalSageMaker, name: str) -> list[str]:
    found = local.client("logs").describe_log_streams(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/"
    )
    return [stream["logStreamName"] for stream in found["logStreams"]]


SEVERAL = """
import json, os
from pathlib import Path
hosts, host = json.loads(os.environ["SM_HOSTS"]), os.environ["SM_CURRENT_HOST"]
number = hosts.index(host) + 1
everything = sorted(path.name for path in Path(os.environ["SM_CHANNEL_ALL"]).iterdir())
share = sorted(path.name for path in Path(os.environ["SM_CHANNEL_SHARE"]).iterdir())
print(f"host {number} of {len(hosts)} has {len(everything)} and {share}")
print(f"val/loss={number}")
for directory in (os.environ["SM_OUTPUT_DATA_DIR"], os.environ["SM_MODEL_DIR"]):
    Path(directory, "parts").mkdir()
    Path(directory, "parts", f"{number}.txt").write_text(host)
    Path(directory, "same.txt").write_text(host)
Path(os.environ["LOCAL_SAGEMAKER_CHECKPOINT_DIR"], f"{number}.ckpt").write_text(host)
"""


@pytest.mark.parametrize("count", [2, 3])
def test_several_hosts_share_the_data_and_one_output(begin: Begin, count: int) -> None:
    local = begin()
    for number in range(5):
        local.client("s3").put_object(Bucket=BUCKET, Key=f"photos/{number}", Body=b"photo")
    channels = [channel("photos/", "all"), channel("photos/", "share", S3DataDistributionType="ShardedByS3Key")]
    checkpoints = {"S3Uri": f"s3://{BUCKET}/jobs/several/checkpoints"}
    create(local, "several", SEVERAL, InputDataConfig=channels, CheckpointConfig=checkpoints, **on(count))
    job = wait_for(local.client("sagemaker"), "several")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")

    numbers = range(1, count + 1)
    shares = [[str(key) for key in range(5)][number - 1 :: count] for number in numbers]
    said = [line for line in log_lines(local.client("logs"), "several") if line.startswith("host")]
    assert said == [f"host {each} of {count} has 5 and {shares[each - 1]}" for each in numbers]
    assert [name.rpartition("-")[0] for name in streams(local, "several")] == [
        f"several/algo-{each}" for each in numbers
    ]
    parts = {f"parts/{each}.txt": f"127.0.0.{each}".encode() for each in numbers}
    assert archive(local, "jobs/several/output/output.tar.gz") == parts | {"same.txt": b"127.0.0.1"}
    assert archive(local, "jobs/several/output/model.tar.gz") == parts | {"same.txt": b"127.0.0.1"}
    found = local.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="jobs/several/checkpoints")["Contents"]
    assert [each["Key"].rpartition("/")[2] for each in found] == [f"{each}.ckpt" for each in numbers]


def test_the_toolkit_runs_on_several_hosts(begin: Begin) -> None:
    local = begin(TRAIN)
    script = "import os; print('here is', os.environ['SM_CURRENT_HOST'], 'of', os.environ['SM_HOSTS'])"
    create(local, "pair", script, **on(2))
    assert wait_for(local.client("sagemaker"), "pair")["TrainingJobStatus"] == "Completed"
    said = [line for line in log_lines(local.client("logs"), "pair") if line.startswith("here is")]
    assert said == [f'here is 127.0.0.{number} of ["127.0.0.1","127.0.0.2"]' for number in (1, 2)]


def test_a_host_that_fails_ends_the_job_on_all(begin: Begin) -> None:
    local = begin()
    script = """
import os, sys
from pathlib import Path
if os.environ["SM_CURRENT_HOST"].endswith("2"):
    Path(os.environ["SM_OUTPUT_DIR"], "failure").write_text("the second host has no photos")
    sys.exit(1)
"""
    create(local, "half", script + WAITING, **on(3))
    job = wait_for(local.client("sagemaker"), "half")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: the second host has no photos, exit code: 1"


def test_a_job_that_loses_one_of_its_hosts_restarts_on_all_from_their_checkpoints(begin: Begin) -> None:
    local = begin(interrupt_on="host 2 has begun")
    script = """
import json, os, sys, time
from pathlib import Path
number = json.loads(os.environ["SM_HOSTS"]).index(os.environ["SM_CURRENT_HOST"]) + 1
checkpoints = Path(os.environ["LOCAL_SAGEMAKER_CHECKPOINT_DIR"])
if (checkpoints / "2.ckpt").exists():
    print(f"host {number} goes on")
    sys.exit(0)
if number == 2:
    (checkpoints / "2.ckpt").write_text("begun")
    print("host 2 has begun", flush=True)
time.sleep(300)
"""
    spot = {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600},
        "CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/jobs/lost/checkpoints"},
    }
    create(local, "lost", script, **spot, **on(2))
    job = wait_for(local.client("sagemaker"), "lost")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert "Restarting" in statuses(job)
    assert [line for line in log_lines(local.client("logs"), "lost") if "goes on" in line] == [
        "host 1 goes on",
        "host 2 goes on",
    ]


def test_more_hosts_than_fit_onto_this_machine_are_refused(begin: Begin) -> None:
    with pytest.raises(ClientError, match=r"InstanceCount other than 1 or 2 or 3 is not emulated"):
        create(begin(), "many", "", **on(4))

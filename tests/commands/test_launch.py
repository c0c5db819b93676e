"""launch_sagemaker.py, rehearsed: the same results as on this machine, and messages that say what to do."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shlex
import signal
import time
from pathlib import Path

import pytest

from dogbreeds.overrides import name_of
from dogbreeds.run_directory import METRICS, PREDICTIONS, REPORT, RULES, RUN_CONFIG
from local_sagemaker import Faults, connect
from tests.commands.test_commands import SMALL, metrics_of
from tests.commands.typed import Typed, run, succeeded
from tests.kaggle import kaggle

pytestmark = pytest.mark.slow

FULL = {RUN_CONFIG, METRICS, PREDICTIONS, REPORT, RULES, "history.csv", "checkpoints", "model", "model.tar.gz"}


def test_help_imports_nothing_of_aws() -> None:
    answer = run("-X", "importtime", "launch_sagemaker.py", "--help")
    assert answer.returncode == 0
    for name in ("attach", "stop", "sagemaker", "debugger=aws", "sagemaker=rehearsal"):
        assert name in answer.stdout
    imported = {line.split("|")[-1].strip().split(".")[0] for line in answer.stderr.splitlines() if "|" in line}
    assert not imported & {"boto3", "botocore", "sagemaker", "moto", "torch", "pytorch_lightning"}


@pytest.mark.ci
def test_a_training_job_is_the_run_of_this_machine(sample: Path, rehearsed: str, tmp_path: Path) -> None:
    """The job gets the photos by a table, and uploads those that it names alone."""
    here = [*SMALL, f"cache.dir={tmp_path / 'cache'}"]
    succeeded("train.py", f"data.dir={sample}", *here, f"hydra.run.dir={tmp_path / 'local'}")
    there = ["sagemaker=rehearsal", rehearsed, f"hydra.run.dir={tmp_path / 'job'}"]
    labels = kaggle(sample, tmp_path / "kaggle", splits=True)
    photos = [f"data.dir={labels.parent}", f"data.labels={labels}"]
    busy = "sagemaker.faults.throttled.CreateTrainingJob=2"
    said = succeeded("launch_sagemaker.py", *photos, *here, *there, busy)
    assert "uploads 72 photos" in said
    fetched = tmp_path / "job"
    assert {path.name for path in fetched.iterdir()} >= FULL
    assert (fetched / "checkpoints" / "best.ckpt").is_file()
    found = [metrics_of(tmp_path / name) for name in ("local", "job")]
    measured = [{name: value for name, value in one.items() if isinstance(value, float)} for one in found]
    # Engines with other numbers of threads add in another order.
    assert measured[0] == pytest.approx(measured[1], rel=1e-6)
    assert f"report {fetched / REPORT}" in said
    assert (fetched / "labels.csv").read_bytes() == labels.read_bytes()
    assert f"dir: {labels.parent}\n  labels: {fetched / 'labels.csv'}" in (fetched / RUN_CONFIG).read_text()
    assert "/input/data/" not in (fetched / RUN_CONFIG).read_text()
    # It can be followed once more, by whoever knows its name.
    name = re.search(r"^job +(\S+?),", said, re.MULTILINE)
    assert name is not None
    again = [f"attach={name[1]}", *there[:2], f"hydra.run.dir={tmp_path / 'again'}"]
    assert "Completed" in succeeded("launch_sagemaker.py", *again)
    assert (tmp_path / "again" / METRICS).is_file()
    assert "Completed" in succeeded("launch_sagemaker.py", f"stop={name[1]}", *there[:2])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sagemaker.hours=0"], ["sagemaker.hours=0", "above 0"]),
        (["sagemaker.hour=3"], ["'sagemaker.hour'", "sagemaker.hours"]),
        (["sagemaker=azure"], ["azure", "aws", "rehearsal"]),
        (["attach=nobody", "sagemaker=rehearsal"], ["No training job named nobody"]),
        (["sagemaker=rehearsal", "data.dir=nowhere"], ["nowhere", "no such directory"]),
        (["-m", "sagemaker.spot=true,false", "hpo=bayes"], ["sagemaker.spot cannot be searched"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_wrong_inputs_of_the_launcher(arguments: list[str], said: list[str], rehearsed: str) -> None:
    there = [rehearsed] if "sagemaker=rehearsal" in arguments else []
    answer = run("launch_sagemaker.py", *arguments, *there)
    assert answer.returncode == 2, answer.stderr
    for words in said:
        assert words in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.ci
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sagemaker.faults.capacity_errors=1"], ["CapacityError", "another sagemaker.instance"]),
        (["debugger=aws", "sagemaker.faults.debugger_closed=true"], ["Cannot start", "Leave debugger=aws out"]),
        (["optimizer=sgd", "lr=1e30", "model.head=mlp"], ["validation loss was never finite", "The log above"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_goes_wrong_there_is_said_with_what_to_do(
    arguments: list[str], said: list[str], sample: Path, rehearsed: str, tmp_path: Path
) -> None:
    there = ["sagemaker=rehearsal", rehearsed, f"hydra.run.dir={tmp_path / 'job'}"]
    given = {argument.split("=")[0] for argument in arguments}
    small = [setting for setting in SMALL if setting.split("=")[0] not in given]
    answer = run("launch_sagemaker.py", f"data.dir={sample}", *small, *there, *arguments)
    assert answer.returncode == 2, answer.stderr
    for words in said:
        assert words in answer.stderr + answer.stdout
    assert "Traceback" not in answer.stderr


def hints(*said: str) -> dict[str, list[str]]:
    """Returns the printed commands, by what they do, as a shell would split them."""
    found = re.findall(r"^(?! ).*?python (launch_sagemaker\.py .*)$", "\n".join(said), re.MULTILINE)
    words = [shlex.split(command) for command in found]
    return {name_of(next(one for one in given[1:] if one != "-m")): given for given in words}


def jobs_of(rehearsed: str) -> set[str]:
    """Returns the names of all training jobs that have written to the log of a rehearsal."""
    logs = connect(Path(rehearsed.partition("=")[2]), Faults(), 60).client("logs")
    try:
        found = logs.describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs")["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return set()
    return {one["logStreamName"].split("/")[0] for one in found}


@pytest.mark.ci
def test_a_tuning_job_survives_whatever_ends_its_command(sample: Path, rehearsed: str, tmp_path: Path) -> None:
    """Ctrl-C and kill in turns, at any moment: the same command goes on, and every command that it prints works."""
    searched, moments = tmp_path / "a search", random.Random(17)
    there = ["sagemaker=rehearsal", rehearsed]
    here = [f"data.dir={sample}", *SMALL, *there, f"hydra.sweep.dir='{searched}'"]
    command = ["launch_sagemaker.py", "-m", "hpo=bayes", "hpo.trials=2", "hpo.parallel=2", *here]
    printed: dict[str, list[str]] = {}
    others = jobs_of(rehearsed)
    for sent in 3 * (signal.SIGKILL, signal.SIGINT):
        typed = Typed(*command)
        time.sleep(moments.uniform(0.5, 5))
        with contextlib.suppress(ProcessLookupError):
            os.kill(typed.pid, sent)
        done = typed.wait()
        printed |= hints(done.stderr)
        if done.returncode == 0:
            # A fast machine.
            break
    else:
        done = run(*command)
    said = done.stdout
    assert done.returncode == 0, done.stderr
    assert "2 finished; best: trial" in said
    printed |= hints(said)
    for name in ("leaderboard.csv", "best.yaml", "search.html", "0/history.csv", "1/metrics.json"):
        assert (searched / name).is_file(), name
    # All trials took the features of one job.
    assert {metrics_of(searched / number)["features"]["computed"] for number in ("0", "1")} == {0}
    job = json.loads((searched / "tuning_job.json").read_text())["tuning_job"]
    jobs = jobs_of(rehearsed) - others
    trials = {one for one in jobs if one.startswith(f"{job}-")}
    assert (len(trials), len(jobs - trials)) == (2, 1)
    for action, words in printed.items():
        place = f"hydra.run.dir={tmp_path / action}"
        said = succeeded(*words, *([] if action == "stop" else [place]), *(["debugger=aws"] * (action == "best_of")))
    assert "rule   LossNotDecreasing" in said
    assert {path.name for path in (tmp_path / "best_of").iterdir()} >= FULL


@pytest.mark.ci
def test_a_search_in_one_job_that_is_left_goes_on(sample: Path, rehearsed: str, tmp_path: Path) -> None:
    searched = tmp_path / "search"
    here = [f"data.dir={sample}", *SMALL, "sagemaker=rehearsal", rehearsed, f"hydra.sweep.dir={searched}"]
    typed = Typed("launch_sagemaker.py", "-m", "lr=0.1,0.01", "hpo.one_job=true", *here)
    while "Starting" not in typed.said:
        assert not typed.ended(), typed.wait().stderr
        time.sleep(0.05)
    os.kill(typed.pid, signal.SIGINT)
    ended = typed.wait()
    assert ended.returncode == 130
    number = re.search(r"best: trial (\d)", succeeded(*hints(ended.stderr)["attach"]))
    assert number is not None
    assert (searched / number[1] / "model" / "model.json").is_file()
    for name in ("leaderboard.csv", "best.yaml", "search.html", "0/metrics.json", "1/metrics.json"):
        assert (searched / name).is_file(), name

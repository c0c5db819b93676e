"""launch_sagemaker.py, rehearsed: the same results as on this machine, and messages that say what to do."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import time
from pathlib import Path

import pytest

from dogbreeds.config import read_yaml
from dogbreeds.overrides import name_of
from dogbreeds.run_directory import BEST, METRICS, PREDICTIONS, REPORT, RULES, RUN_CONFIG, TUNING_JOB
from tests.commands.test_commands import SMALL, metrics_of
from tests.commands.typed import Typed, run, succeeded

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
    here = [f"data.dir={sample}", *SMALL, f"cache.dir={tmp_path / 'cache'}"]
    succeeded("train.py", *here, f"hydra.run.dir={tmp_path / 'local'}")
    there = ["sagemaker=rehearsal", rehearsed, f"hydra.run.dir={tmp_path / 'job'}"]
    said = succeeded("launch_sagemaker.py", *here, *there)
    fetched = tmp_path / "job"
    assert {path.name for path in fetched.iterdir()} >= FULL
    assert (fetched / "checkpoints" / "best.ckpt").is_file()
    found = [metrics_of(tmp_path / name) for name in ("local", "job")]
    for metrics in found:
        del metrics["seconds"], metrics["features"]
    assert found[0] == found[1]
    assert f"report {fetched / REPORT}" in said
    assert str(sample) in (fetched / RUN_CONFIG).read_text()
    assert "/input/data/" not in (fetched / RUN_CONFIG).read_text()
    # It can be followed once more, by whoever knows its name.
    name = re.search(r"^job +(\S+?),", said, re.MULTILINE)
    assert name is not None
    again = [f"attach={name[1]}", *there[:2], f"hydra.run.dir={tmp_path / 'again'}"]
    assert "Completed" in succeeded("launch_sagemaker.py", *again)
    assert (tmp_path / "again" / METRICS).is_file()
    assert "Completed" in succeeded("launch_sagemaker.py", f"stop={name[1]}", *there[:2])


@pytest.mark.ci
def test_a_tuning_job_ends_with_what_a_search_leaves(sample: Path, rehearsed: str, tmp_path: Path) -> None:
    there = ["sagemaker=rehearsal", rehearsed]
    searched = tmp_path / "search"
    here = [f"data.dir={sample}", *SMALL]
    said = succeeded(
        "launch_sagemaker.py", "-m", "hpo=random", "hpo.trials=2", "hpo.parallel=2", *here, *there,
        "sagemaker.features_instances=2", f"hydra.sweep.dir={searched}",
    )  # fmt: skip
    assert "2 finished; best: trial" in said
    assert f"again  python launch_sagemaker.py best_of={searched} sagemaker=rehearsal" in said
    for name in ("leaderboard.csv", "best.yaml", "search.html", "0/history.csv", "1/metrics.json"):
        assert (searched / name).is_file(), name
    # All trials took the features of one job, whose two hosts computed a share each.
    assert re.search(r"on +2 x ", said)
    assert {metrics_of(searched / number)["features"]["computed"] for number in ("0", "1")} == {0}
    job = json.loads((searched / "tuning_job.json").read_text())["tuning_job"]
    best = [f"best_of={job}", *there, "debugger=aws", f"hydra.run.dir={tmp_path / 'best'}"]
    said = succeeded("launch_sagemaker.py", *best)
    assert "rule   LossNotDecreasing" in said
    assert {path.name for path in (tmp_path / "best").iterdir()} >= FULL


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
def test_a_search_inside_one_job_leaves_the_same_too(sample: Path, rehearsed: str, tmp_path: Path) -> None:
    searched = tmp_path / "search"
    said = succeeded(
        "launch_sagemaker.py", "-m", "lr=0.1,0.01", "hpo.one_job=true", f"data.dir={sample}", *SMALL,
        "sagemaker=rehearsal", rehearsed, f"hydra.sweep.dir={searched}",
    )  # fmt: skip
    number = re.search(r"best: trial (\d)", said)
    assert number is not None
    assert (searched / number[1] / "model" / "model.json").is_file()
    for name in ("leaderboard.csv", "best.yaml", "search.html", "0/metrics.json", "1/metrics.json"):
        assert (searched / name).is_file(), name


@pytest.mark.ci
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sagemaker.faults.capacity_errors=1"], ["CapacityError", "another sagemaker.instance"]),
        (
            ["debugger=aws", "sagemaker.faults.debugger_closed=true"],
            ["Cannot start", "Leave debugger=aws out"],
        ),
        (["sagemaker.hours=0.0005", "epochs=5000", "patience=5000"], ["MaxRuntimeExceeded", "raise sagemaker.hours"]),
        (["optimizer=sgd", "lr=1e38", "model.head=mlp"], ["validation loss was never finite", "The log above"]),
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


@pytest.mark.ci
def test_a_service_that_is_busy_is_asked_again(sample: Path, rehearsed: str, tmp_path: Path) -> None:
    there = ["sagemaker=rehearsal", rehearsed, f"hydra.run.dir={tmp_path / 'job'}"]
    throttled = "+sagemaker.faults.throttled.CreateTrainingJob=2"
    succeeded("launch_sagemaker.py", f"data.dir={sample}", *SMALL, *there, throttled)
    assert (tmp_path / "job" / METRICS).is_file()


def hints(*said: str) -> dict[str, list[str]]:
    """Returns the printed commands, by what they do, as a shell would split them."""
    found = re.findall(r"^(?! ).*?python (launch_sagemaker\.py .*)$", "\n".join(said), re.MULTILINE)
    words = [shlex.split(command) for command in found]
    return {name_of(next(one for one in given[1:] if one != "-m")): given for given in words}


@pytest.mark.ci
@pytest.mark.parametrize(
    ("search", "left"),
    [(["hpo=random", "hpo.trials=2"], signal.SIGKILL), (["lr=0.1,0.01", "hpo.one_job=true"], signal.SIGINT)],
    ids=["tuning job, killed", "one job, Ctrl-C"],
)
def test_a_search_that_is_left_goes_on_and_every_hint_works(
    search: list[str], left: signal.Signals, sample: Path, rehearsed: str, tmp_path: Path
) -> None:
    place = tmp_path / "a place"
    here = [f"data.dir={sample}", *SMALL, "sagemaker=rehearsal", rehearsed, f"seed={left.value}"]
    command = ["launch_sagemaker.py", "-m", *search, *here, "sagemaker.features_instance=null"]
    command.append(f"hydra.sweep.dir='{place}'")
    typed = Typed(*command)
    # Killed as soon as it is written down; followed until Ctrl-C.
    while not (place / TUNING_JOB).is_file() or (left == signal.SIGINT and "Starting" not in typed.said):
        assert not typed.ended(), typed.wait().stderr
        time.sleep(0.05)
    os.kill(typed.pid, left)
    ended = typed.wait()
    began = (place / TUNING_JOB).read_text()
    printed = hints(ended.stderr)
    if left == signal.SIGINT:
        assert ended.returncode == 130 and printed.keys() == {"attach"}
        printed = hints(succeeded(*printed["attach"]))
    else:
        printed = hints(succeeded(*command))
    # It is the same job, which has not run twice.
    assert (place / TUNING_JOB).read_text() == began
    assert {path.name for path in place.iterdir() if path.name.isdigit()} == {"0", "1"}
    number = read_yaml(place / BEST)["trial"]
    assert left == signal.SIGKILL or (place / str(number) / "model" / "model.json").is_file()
    assert printed.keys() == {"best_of"}
    assert f"{sample}" in (place / BEST).read_text()
    job = json.loads(began)["tuning_job"]
    stopped = succeeded("launch_sagemaker.py", f"stop={job}", "sagemaker=rehearsal", rehearsed)
    assert "status Completed" in stopped
    said = succeeded(*printed["best_of"], f"hydra.run.dir={tmp_path / 'best'}")
    assert (tmp_path / "best" / METRICS).is_file() and f"run    {tmp_path / 'best'}" in said

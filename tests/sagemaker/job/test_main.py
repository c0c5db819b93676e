"""What runs in a job, under AWS's own toolkit, and the parts of it that need no job."""

from __future__ import annotations

import json
import os
import re
import signal
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torchvision.models import squeezenet1_1

from dogbreeds.debug.record import read_history
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.sagemaker.job import main as container
from dogbreeds.sagemaker.job.environment import JobEnvironment, ddp_environment
from dogbreeds.sagemaker.protocol.hyperparameters import FEATURES, SEARCH, TRAIN, TRIAL, Task, encode
from dogbreeds.sagemaker.protocol.inputs import job_inputs
from dogbreeds.schema import TrainConfig
from dogbreeds.training.run import train
from tests.conftest import Compose
from tests.sagemaker.job.opt_ml import OptMl, kill

pytestmark = pytest.mark.slow


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path)
    yield made
    made.end()


class Jobs:
    """Makes jobs, one after the other, that share what outlives a machine."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._made = directory, 0
        self.running: list[int] = []

    def of(
        self, config: TrainConfig, task: Task, *, channels: Mapping[str, Path] | None = None, **settings: object
    ) -> OptMl:
        """A job of a config, with some settings given another value."""
        inputs = job_inputs(config)
        self._made += 1
        hyperparameters = encode({**inputs.overrides, **settings}) | task.encode()
        given = {**inputs.channels(), **(channels or {})}
        self.last = OptMl(self._directory / "jobs" / str(self._made), hyperparameters, given)
        return self.last

    def end(self) -> None:
        for group in self.running:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                continue


def scores(metrics: Path | Mapping[str, object]) -> dict[str, object]:
    """What a run says of itself, but for the time that it took."""
    found = json.loads(metrics.read_text()) if isinstance(metrics, Path) else dict(metrics)
    return {name: value for name, value in found.items() if name not in ("seconds", "features")}


def epochs(output: str) -> list[int]:
    return [int(found) for found in re.findall(r"^\[dogbreeds\] epoch=(\d+) ", output, re.MULTILINE)]


# --- under the toolkit


@pytest.mark.ci
def test_a_training_job_is_the_run_that_it_would_be_here(config: Compose, jobs: Jobs, tmp_path: Path) -> None:
    torch.manual_seed(3)
    torch.save(squeezenet1_1().state_dict(), tmp_path / "own.pth")
    sent = config(f"model.weights={tmp_path / 'own.pth'}")
    local = train(sent)
    job = jobs.of(sent, Task(TRAIN, 60.0))
    code, output = job.run()
    assert code == 0, output
    assert scores(job.data / "metrics.json") == scores(local.metrics)
    assert epochs(output) == [1, 2, 3]
    assert f"test/accuracy={local.metrics['test/accuracy']!r}" in output
    assert "\r" not in output

    def files(directory: Path) -> set[str]:
        return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}

    def lasting(names: set[str]) -> set[str]:
        apart = ("model/", "model.tar.gz", "tensorboard/events")
        return {name for name in names if not name.startswith(apart)}

    assert lasting(files(job.data)) == lasting(files(local.directory)) | {"train.log"}
    assert files(job.model) == files(local.directory / "model")
    assert not any((job.data / name).exists() for name in ("model", "model.tar.gz"))
    assert not (job.base / "dogbreeds").exists(), "scratch"


@pytest.mark.ci
def test_a_job_that_loses_its_machine_goes_on(config: Compose, jobs: Jobs) -> None:
    long = config("epochs=150", "patience=150", "lr=0.001")
    local = train(long)
    first = jobs.of(long, Task(TRAIN, 0.0))
    process = first.start()
    jobs.running.append(process.pid)
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch=20 " in line:
            break
    kill(process)
    assert not (first.data / "metrics.json").exists()
    # Another machine: nothing of the first one but what the service kept.
    second = jobs.of(long, Task(TRAIN, 0.0))
    code, output = second.run()
    assert code == 0, output
    assert "Resuming from the last checkpoint." in output
    assert 18 < epochs(output)[0] < 150 and epochs(output)[-1] == 150
    assert scores(second.data / "metrics.json") == scores(local.metrics)
    rows, expected = (read_history(path / "history.csv") for path in (second.data, local.directory))
    assert [row | {"seconds": 0} for row in rows] == [row | {"seconds": 0} for row in expected]


@pytest.mark.ci
def test_a_job_whose_toolkit_was_stopped_does_not_go_on(config: Compose, jobs: Jobs) -> None:
    job = jobs.of(config("epochs=100000", "patience=100000", "profiler=off"), Task(TRAIN, 3600.0))
    process = job.start()
    jobs.running.append(process.pid)
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch=2 " in line:
            break
    process.send_signal(signal.SIGTERM)
    # The script has the other end of the pipe, which closes when it ends.
    with process.stdout:
        rest = process.stdout.read()
    process.wait()
    assert "The job was stopped." in rest
    assert not (job.base / "output/failure").exists()
    assert not (job.data / "metrics.json").exists()
    assert list(job.model.iterdir()) == []


@pytest.mark.ci
def test_a_wrong_setting_is_the_reason_of_the_failure(config: Compose, jobs: Jobs) -> None:
    job = jobs.of(config(), Task(TRAIN, 60.0), lr=-1.0)
    package = job.base / "code/src/dogbreeds/__init__.py"
    package.write_text(f"{package.read_text()}print('the code of the job')\n")
    code, output = job.run()
    assert code == 1
    assert "the code of the job" in output
    assert job.failure == "lr=-1.0: must be above 0 and at most 1e+30."
    assert "Traceback" not in output


@pytest.mark.ci
def test_trials_start_from_the_features_of_another_job(config: Compose, jobs: Jobs, tmp_path: Path) -> None:
    local = train(config())
    features = jobs.of(config(), Task(FEATURES, 60.0))
    assert features.run()[0] == 0
    archive = tmp_path / "output.tar.gz"
    with tarfile.open(archive, "w:gz") as members:
        members.add(features.data, ".")
    trial = jobs.of(config(), Task(TRIAL, 60.0), channels={"features": archive})
    code, output = trial.run()
    assert code == 0, output
    assert "features: 0 computed, 72 reused" in output
    assert epochs(output) == [1, 2, 3]
    expected = {name: value for name, value in scores(local.metrics).items() if "/" in name}
    assert {name: value for name, value in scores(trial.data / "metrics.json").items() if "/" in name} == expected
    kept = {path.name for path in trial.data.iterdir()}
    assert kept == {
        "config.yaml",
        "head.safetensors",
        "history.csv",
        "index.csv",
        "metrics.json",
        "predictions.csv",
        "train.log",
    }


@pytest.mark.ci
def test_a_whole_search_in_one_job(config: Compose, jobs: Jobs) -> None:
    typed = ("hpo=random", "hpo.trials=3", "lr=interval(0.001,0.1)", "epochs=2", "batch_size=12,18", "trainer=cpu")
    typed += ("model=squeezenet1_1", "model.weights=random", "debugger=off")
    job = jobs.of(config(), Task(SEARCH, 60.0, typed))
    code, output = job.run()
    assert code == 0, output
    assert "3 finished" in output and "\r" not in output
    best = OmegaConf.load(job.data / "best.yaml")
    assert f"val/loss={best.value!r}" in output
    assert not [one for one in best.overrides if one.startswith(("data.dir", "cache.dir", "run_dir", "hydra"))]
    assert (job.model / "model.json").is_file() and (job.data / "search.html").is_file()
    # Started again, it has nothing left to do.
    code, output = jobs.of(config(), Task(SEARCH, 60.0, typed)).run()
    assert code == 0 and "Resuming from the last checkpoint." in output
    assert OmegaConf.load(jobs.last.data / "best.yaml") == best
    assert (jobs.last.model / "model.json").is_file()


# --- without a job


def environment(base: Path, **changes: str) -> dict[str, str]:
    return {
        "SM_HPS": json.dumps({"lr": 0.1, "dogbreeds_task": "train", "dogbreeds_checkpoint_seconds": 1}),
        "SM_CHANNELS": '["photos", "file-model-weights"]',
        "SM_CHANNEL_PHOTOS": str(base / "photos"),
        "SM_CHANNEL_FILE-MODEL-WEIGHTS": str(base / "weights"),
        "SM_MODEL_DIR": str(base / "model"),
        "SM_OUTPUT_DIR": str(base / "output"),
        "SM_OUTPUT_DATA_DIR": str(base / "output/data"),
        "SM_HOSTS": '["algo-1"]',
        "SM_CURRENT_HOST": "algo-1",
        "SM_NUM_GPUS": "0",
        **changes,
    }


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "photos/a").mkdir(parents=True)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/it's mine.pth").write_bytes(b"")
    return tmp_path


def test_channels_and_places_become_settings(base: Path) -> None:
    around = JobEnvironment.of(environment(base))
    assert around.overrides() == [
        f"cache.dir='{base}/dogbreeds/features'",
        f"run_dir='{base}/output/data'",
        f"data.dir='{base}/photos'",
        f"model.weights='{base}/weights/it\\'s mine.pth'",
    ]


def test_checkpoints_are_kept_where_the_job_has_a_place_for_them(base: Path) -> None:
    assert JobEnvironment.of(environment(base)).snapshots(TRAIN) is None
    named = JobEnvironment.of(environment(base, LOCAL_SAGEMAKER_CHECKPOINT_DIR=str(base / "kept")))
    assert named.checkpoints == base / "kept"


def test_machines_that_work_together() -> None:
    assert ddp_environment(["algo-1"], "algo-1") == {}
    assert ddp_environment(["algo-2", "algo-1", "algo-3"], "algo-2") == {
        "MASTER_ADDR": "algo-1",
        "MASTER_PORT": "29500",
        "NODE_RANK": "1",
        "PL_TRAINER_NUM_NODES": "3",
    }


def test_only_the_first_machine_puts_out(base: Path) -> None:
    hosts = {"SM_HOSTS": '["algo-1", "algo-2"]'}
    assert JobEnvironment.of(environment(base, **hosts)).work == base / "output/data"
    assert JobEnvironment.of(environment(base, SM_CURRENT_HOST="algo-2", **hosts)).work == base / "dogbreeds/run"


def test_this_is_no_job() -> None:
    with pytest.raises(UserError, match=r"launch_sagemaker\.py"):
        JobEnvironment.of({})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lrr": 1}, "Unknown setting 'lrr'. Did you mean lr"),
        ({"lr": "fast"}, "lr"),
        ({"data.on_bad_image": "x"}, "data.on_bad_image=x: must be one of"),
    ],
)
def test_what_is_wrong_is_said_where_the_service_looks(
    base: Path, monkeypatch: pytest.MonkeyPatch, changes: Mapping[str, object], said: str
) -> None:
    told = json.loads(environment(base)["SM_HPS"]) | changes
    for name, value in environment(base, SM_HPS=json.dumps(told)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(container, "configure_log", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        container.main()
    assert ended.value.code == 1
    assert said in (base / "output/failure").read_text()


def test_an_error_of_the_program_is_said_too(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(base).items():
        monkeypatch.setenv(name, value)

    def broken(job: container.Job) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(container.Job, "run", broken)
    with pytest.raises(SystemExit):
        container.main()
    assert (base / "output/failure").read_text().startswith("RuntimeError: out of luck\n")


# --- what a job is told to do


def test_tasks_arrive() -> None:
    task = Task(SEARCH, 1.5, ("lr=0.1,0.2", "hpo=bayes"))
    sent = task.encode()
    assert Task.decode({name: json.loads(text) if text[0] in "[1" else text for name, text in sent.items()}) == task


def test_a_command_line_that_is_too_long() -> None:
    with pytest.raises(ConfigError, match="2,500 characters"):
        Task(SEARCH, 1.0, tuple(f"data.views={number}" for number in range(300))).encode()

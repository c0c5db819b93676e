"""`attach=`: the pasted hint of a command that was left, and the name of a job that was begun elsewhere."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hydra import compose

from dogbreeds.composing import initialized
from dogbreeds.config import load_saved, read_yaml, save
from dogbreeds.errors import ConfigError
from dogbreeds.hpo.plan import Plan
from dogbreeds.run_directory import RUN_CONFIG, SEARCH_CONFIG, TUNING_JOB
from dogbreeds.sagemaker import commands
from dogbreeds.sagemaker.launch import begun, searches
from dogbreeds.sagemaker.launch.job_handle import TRAINING, JobHandle
from dogbreeds.sagemaker.launch.launcher import Launcher, Note
from dogbreeds.sagemaker.protocol.hyperparameters import FEATURES, SEARCH, TASK
from dogbreeds.sagemaker.session import Account
from dogbreeds.schema import TrainConfig
from tests.conftest import Compose
from tests.local_sagemaker.jobs import BUCKET, training_job, upload_code
from tests.sagemaker.launch.conftest import AccountWith

# Leaves what a job leaves: its own config, and metrics.
SCRIPT = """
import os, pathlib, shutil
out = pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"])
shutil.copy("config.txt", out / "config.yaml")
(out / "metrics.json").write_text("{}")
"""


def begin(account: Account, config: TrainConfig, tmp_path: Path, task: str | None = None) -> None:
    """Begins a job whose config has the paths of its container."""
    there = replace(
        config,
        data=replace(config.data, dir="/opt/ml/input/data/photos"),
        model=replace(config.model, weights="/opt/ml/input/data/weights/own.pth"),
    )
    save(there, tmp_path / "there.yaml")
    code = upload_code(account.s3, SCRIPT, config=(tmp_path / "there.yaml").read_text())
    output = {"S3OutputPath": f"s3://{BUCKET}/dogbreeds/jobs"}
    request = training_job("job-1", code, HyperParameters={} if task is None else {TASK: task}, OutputDataConfig=output)
    note = partial(begun.remember_config, config=config)
    if task is None:
        Launcher.of(account, Path()).begin(TRAINING, request, Path(config.run_dir), note)
    else:
        Launcher.of(account, Path()).begin(TRAINING, request, None, lambda name: None)


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "build_report", lambda directory: directory / "report.html")


def test_a_job_that_was_left_comes_to_where_it_belongs(
    account_with: AccountWith, config: Compose, tmp_path: Path
) -> None:
    account, launched = account_with(), config()
    begin(account, launched, tmp_path)
    here = replace(config("model.weights=imagenet"), run_dir=str(tmp_path / "default"))
    here = replace(here, data=replace(here.data, dir="elsewhere"))
    said = commands.attach(account.settings, "job-1", here)
    assert f"run    {launched.run_dir}" in said
    fetched = load_saved(Path(launched.run_dir) / RUN_CONFIG)
    assert (fetched.data.dir, fetched.model.weights) == (launched.data.dir, "random")
    assert fetched.run_dir == launched.run_dir and not (tmp_path / "default" / RUN_CONFIG).exists()


def test_a_job_of_another_machine_keeps_what_is_unknown_here(
    account_with: AccountWith, config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = account_with()
    begin(account, config(), tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another machine"))
    here = replace(config(), run_dir=str(tmp_path / "default"))
    commands.attach(account.settings, "job-1", here)
    fetched = load_saved(tmp_path / "default" / RUN_CONFIG)
    assert fetched.data.dir == "/opt/ml/input/data/photos"
    assert fetched.model.weights == "/opt/ml/input/data/weights/own.pth"
    assert fetched.run_dir == here.run_dir


def test_a_search_in_one_job_of_another_machine_is_refused_before_it_is_fetched(
    account_with: AccountWith, config: Compose, tmp_path: Path
) -> None:
    account = account_with()
    begin(account, config(), tmp_path, SEARCH)
    with pytest.raises(ConfigError, match=r"begun elsewhere.* Follow it there: .* -m resume=<.*stop=job-1"):
        commands.attach(account.settings, "job-1", replace(config(), run_dir=str(tmp_path / "default")))
    assert not (tmp_path / "default").exists()


def test_a_search_of_another_machine_is_followed_here(
    account_with: AccountWith, config: Compose, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, followed = account_with(), []
    settings = ["model=squeezenet1_1", "model.weights=random", "trainer=cpu", "hpo.one_job=true"]
    with initialized("launch") as loader:
        master = compose("launch", return_hydra_config=True)
        typed = [f"data.dir={sample}", *settings, "lr=0.1,1"]
        plan = Plan(typed, lambda given: loader.load_sweep_config(master, list(given)), loader)

    def begin_noted(note: Note) -> JobHandle:
        note("job-1")
        begin(account, config(), tmp_path, SEARCH)
        return JobHandle(account, "job-1")

    searches.begun(plan, tmp_path / "there", Launcher.of(account, Path()).storage, begin_noted)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another machine"))
    monkeypatch.setattr(commands, "_search", lambda *given: followed.append(given[1:]))
    for made in ("here", "again"):
        # As Hydra does.
        (tmp_path / made).mkdir()
    commands.attach(account.settings, "job-1", replace(config(), run_dir=str(tmp_path / "here")))
    ((again, directory, job),) = followed
    assert (again.arguments, directory, job.name) == (plan.arguments, tmp_path / "here", "job-1")
    for name in (TUNING_JOB, SEARCH_CONFIG):
        assert read_yaml(tmp_path / "here" / name) == read_yaml(tmp_path / "there" / name)
    again = replace(config(), run_dir=str(tmp_path / "again"))
    for typed, expected in (["data.workers=0"], "here"), ([f"hydra.run.dir={again.run_dir}"], "again"):
        commands.attach(account.settings, "job-1", again, typed)
        assert followed[-1][1] == tmp_path / expected
    # So that it need not be typed again.
    assert "data.workers=0" in read_yaml(tmp_path / "here" / SEARCH_CONFIG)["overrides"]


def test_the_features_of_a_search_are_no_search(
    account_with: AccountWith, config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = account_with()
    begin(account, config(), tmp_path, FEATURES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / TUNING_JOB).write_text(json.dumps({"tuning_job": "another", "trials": 2}))
    said = commands.attach(account.settings, "job-1", config())
    assert "Its features are for the search that began it" in said


def test_what_was_begun_long_ago_is_forgotten(config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with begun.beginning():
        for name in ("old", "new"):
            begun.remember(name, name, tmp_path)
            begun.remember_config(name, config())
    begun.finished("new")
    assert (begun.begun_by("old"), begun.begun_by("new")) == ("old", None)
    long_ago = time.time() - 31 * 24 * 3600
    for path in (tmp_path / "data").rglob("old.*"):
        os.utime(path, (long_ago, long_ago))
    with begun.beginning():
        pass
    assert (begun.directory_of("old"), begun.config_of("old")) == (None, None)
    assert begun.directory_of("new") == tmp_path and begun.config_of("new") == config()

"""The Trainer, loggers and callbacks of a run, and what is refused before photos are read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from dogbreeds.config import load
from dogbreeds.errors import ConfigError
from dogbreeds.training.run import train
from dogbreeds.training.trainer import device_of, is_first_process, new_callbacks, new_loggers, new_trainer
from tests.conftest import ROOT, Compose

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trainer.gradient_clip=1", "trainer.gradient_clip: the Trainer has no such argument. It has accumulate_grad"),
        ("trainer.max_epochs=3", "trainer.max_epochs: use epochs instead"),
        ("trainer.logger=false", "trainer.logger: use logger=csv"),
        ("trainer.strategy=dddp", "trainer.strategy=dddp: must be one of auto, ddp, "),
        ("trainer.devices=two", "trainer.devices=two: must be a number above 0, auto, or"),
        ("trainer.strategy=ddp_spawn", "trainer.strategy=ddp_spawn: must be one of auto, ddp, "),
        ("trainer.overfit_batches=1", "trainer.overfit_batches: use debug=one_batch instead"),
        ("trainer.limit_val_batches=0", "trainer.limit_val_batches: use epochs"),
        ("trainer.devices=0", "trainer.devices=0: must be"),
        ("trainer.devices=all", "trainer.devices=all: must be"),
        ("trainer.profiler=simple", "needs profiler.steps=false"),
    ],
)
def test_mistakes_are_one_line(override: str, said: str, config: Compose) -> None:
    with pytest.raises(ConfigError) as caught:
        config(override)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ("PL_GLOBAL_SEED=abc", "PL_GLOBAL_SEED=abc in the environment: must be a number. Type unset PL_GLOBAL_SEED."),
        ("LOCAL_RANK=1", "LOCAL_RANK=1 in the environment: a run begins as one process"),
        ("SLURM_STEP_NUM_TASKS=2", "or srun --ntasks=1"),
        ("LOCAL_RANK=1 WORLD_SIZE=2", ""),
        ("LOCAL_RANK=0", ""),
        ("RANK=0 WORLD_SIZE=1 LOCAL_RANK=0", ""),
        ("SLURM_JOB_ID=1 SLURM_NTASKS=4 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_JOB_NAME=train", ""),
    ],
)
def test_what_launchers_leave_in_the_environment(
    variables: str, said: str, config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("="))
    if said:
        with pytest.raises(ConfigError) as caught:
            config()
        assert said in str(caught.value) and "\n" not in str(caught.value)
    else:
        # As an interactive shell of SLURM is: one process, which may start others.
        assert new_trainer(config()).world_size == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("trainer=gpu",), "trainer.accelerator=gpu .*No supported gpu backend found"),
        (("trainer.accelerator=gpu", 'trainer.devices="2,3"'), "No supported gpu backend found"),
        (("trainer.devices=-1",), "trainer.devices=-1 .*should be an int > 0"),
        (("trainer.precision=16-mixed",), "16-mixed needs a GPU"),
    ],
    ids=str,
)
def test_a_device_that_is_not_there_is_refused_before_photos_are_read(
    overrides: tuple[str, ...], said: str, config: Compose, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        train(config(*overrides))
    assert not list(tmp_path.iterdir())


def test_further_arguments_reach_the_trainer_and_a_resumed_run(config: Compose, cache: Path, tmp_path: Path) -> None:
    overrides = ("trainer.gradient_clip_val=0.5", "trainer.accumulate_grad_batches=3", "trainer.max_steps=2")
    result = train(config(f"cache.dir={cache}", *overrides))
    trainer = new_trainer(config(*overrides))
    assert (trainer.gradient_clip_val, trainer.accumulate_grad_batches, trainer.max_steps) == (0.5, 3, 2)
    assert result.metrics["epochs"] == 2
    resumed = load(OmegaConf.create({"resume": str(tmp_path / "run")}), [f"resume={tmp_path / 'run'}"])
    assert resumed.trainer.arguments == {"gradient_clip_val": 0.5, "accumulate_grad_batches": 3, "max_steps": 2}


def test_debug_is_a_group_and_trainer_debug_a_short_form(config: Compose) -> None:
    small = ("epochs=1", "cache.dir=${run_dir}/cache")
    assert config("trainer=debug") == config("trainer=auto", "debug=one_batch", *small)
    found = config("debug=one_batch", "trainer=ddp", *small).trainer
    assert (found.strategy, found.one_batch, found.detect_anomaly) == ("ddp", True, True)


def test_devices_may_be_numbered(config: Compose) -> None:
    assert device_of(config()) == torch.device("cpu")
    assert new_trainer(config("trainer.devices=2")).num_devices == 2


@pytest.mark.parametrize(
    ("environment", "first"),
    [({}, True), ({"LOCAL_RANK": "1"}, False), ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False)],
    ids=str,
)
def test_one_process_of_all_machines_writes(
    environment: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


# --- loggers and callbacks


def test_several_loggers_write_into_the_run_directory(config: Compose, cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(config(f"cache.dir={cache}", "logger=[tensorboard,csv]", "callbacks=lr_monitor"))
    assert list((run / "tensorboard").glob("events.*"))
    header = (run / "csv/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"val/loss", "train/accuracy", "lr-Adam/pg1"} <= set(header)
    assert "backbone: squeezenet1_1" in (run / "csv/hparams.yaml").read_text()
    assert new_loggers(config("logger=off")) == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("callbacks.mine.patience=3",), r"callbacks\.mine: needs _target_"),
        (("callbacks.mine._target_=os.system",), r"callbacks\.mine\._target_=os\.system|callbacks\.mine: "),
        (("callbacks.mine._target_=no_such_module.Class",), r"callbacks\.mine: .*no_such_module"),
        (("callbacks.mine._target_=pathlib.Path",), "is not a Callback of Lightning"),
    ],
    ids=str,
)
def test_what_is_no_callback_is_refused(overrides: tuple[str, ...], said: str, config: Compose) -> None:
    with pytest.raises(ConfigError, match=said):
        new_callbacks(config(*overrides))


@pytest.mark.ci
def test_mlflow_has_the_numbers_and_the_settings_of_a_run(config: Compose, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    train(config("logger=mlflow", f"logger.mlflow.tracking_uri={uri}", "logger.mlflow.run_name=first"))
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("dogbreeds").experiment_id])
    assert run.info.run_name == "first" and run.info.status == "FINISHED"
    assert run.data.params["model/backbone"] == "squeezenet1_1" and run.data.params["lr"] == "0.01"
    assert len(client.get_metric_history(run.info.run_id, "val/loss")) == 3


def test_mlflow_takes_the_arn_of_a_tracking_server(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sagemaker_mlflow")
    utilities: Any = pytest.importorskip("mlflow.tracking._tracking_service.utils")
    store = utilities._tracking_store_registry.get_store_builder(
        "arn:aws:sagemaker:eu-west-1:1:mlflow-tracking-server/x"
    )
    assert store is not None


@pytest.mark.ci
def test_wandb_keeps_an_offline_run(config: Compose, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    train(config("logger=wandb", "logger.wandb.offline=true"))
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))


# --- several processes


@pytest.mark.ci
@pytest.mark.slow
def test_two_processes_train_one_model(config: Compose, sample: Path, tmp_path: Path) -> None:
    small = (
        f"data.dir={sample}", "model=squeezenet1_1", "model.weights=random", "batch_size=12", "epochs=3",
        f"cache.dir={tmp_path / 'cache'}",
    )  # fmt: skip
    alone = train(config()).metrics
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        *small,
        "trainer=cpu",
        "trainer.strategy=ddp",
        "trainer.devices=2",
    ]
    found = subprocess.run(
        [*command, f"hydra.run.dir={tmp_path / 'two'}"], capture_output=True, text=True, cwd=tmp_path, timeout=600
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("test accuracy") == 1
    assert "did not come to its end" not in found.stdout + found.stderr
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    # Gradients of two halves, averaged, are those of the batch.
    assert metrics["val/loss"] == pytest.approx(alone["val/loss"], rel=1e-3)

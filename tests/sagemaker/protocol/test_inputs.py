"""A job gets the config that was sent."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import pytest

from dogbreeds.config import load
from dogbreeds.debug.catalogue import rules_of
from dogbreeds.errors import ConfigError
from dogbreeds.sagemaker.launch.launcher import JobPlan, Launcher
from dogbreeds.sagemaker.protocol.hyperparameters import Task, decode, encode, is_sent
from dogbreeds.sagemaker.protocol.inputs import JobInputs, job_inputs
from dogbreeds.sagemaker.session import Account
from dogbreeds.schema import TrainConfig, key_types
from tests.conftest import Compose, composed
from tests.sagemaker.conftest import Launch
from tests.sagemaker.protocol.test_hyperparameters import parse


def arrived(inputs: JobInputs, *here: str) -> TrainConfig:
    """What a job makes of it."""
    overrides = [*decode(parse(encode(inputs.overrides))), *here]
    return load(composed("train", overrides), overrides)


def places(config: TrainConfig) -> tuple[str, ...]:
    return f"data.dir={config.data.dir}", f"cache.dir={config.cache.dir}", f"run_dir={config.run_dir}"


def comparable(config: TrainConfig) -> dict[str, object]:
    """All settings; a rule that is switched off and one that is not named are the same."""
    return asdict(config) | {"debugger": asdict(config.debugger) | {"rules": rules_of(config.debugger.rules)}}


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("experiment=vgg16_stanford", "data=folders"),
        ("experiment=resnet50_udacity", "model.hidden=[64,32]", "lr=1e-07", "data.workers=3"),
        ("debugger=off", "profiler=trace", "model.unfreeze=fire9", "trainer=ddp", "schedule=cosine"),
        ("debugger.rules.Overfit=null", "~debugger.rules.DeadRelu", "+debugger.rules.LossNotDecreasing.num_steps=3"),
        ("model=timm", "model.backbone=test_vit", "model.pool=token+mean", "model.crop=0.9", "features.mirror=true"),
        ("optimizer=exact", "weight_decay=0.03", "data.views=0", "features.batch_size=8"),
    ],
)
def test_every_setting_arrives(config: Compose, overrides: tuple[str, ...]) -> None:
    sent = config(*overrides)
    assert comparable(arrived(job_inputs(sent), *places(sent))) == comparable(sent)


def test_all_settings_are_sent_and_none_of_this_machine(config: Compose, sample: Path) -> None:
    inputs = job_inputs(config())
    settings = {name for name in key_types(TrainConfig) if is_sent(name)}
    # Groups are sent entry by entry.
    assert set(inputs.overrides) == settings - {"logger", "callbacks"} | {"logger.tensorboard"}
    assert inputs.files == {"data.dir": sample}
    assert inputs.channels() == {"photos": sample}


def test_a_file_of_weights_becomes_a_channel(config: Compose, tmp_path: Path) -> None:
    weights = tmp_path / "my weights.pth"
    weights.write_bytes(b"")
    inputs = job_inputs(config(f"model.weights='{weights}'"))
    assert inputs.files["model.weights"] == weights
    assert inputs.channels()["file-model-weights"] == weights
    assert "model.weights" not in inputs.overrides


def test_of_a_folder_of_weights_a_job_gets_what_its_backbones_need(config: Compose, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("squeezenet1_1_imagenet.pth", "resnet18.pth"):
        (folder / name).write_bytes(b"")
    one = config(f"model.weights='{folder}'")
    other = replace(one, model=replace(one.model, backbone="resnet18"))
    file = folder / "squeezenet1_1_imagenet.pth"
    assert job_inputs(one).files["model.weights"] == file
    assert job_inputs(one, [one, replace(one, lr=0.1)], searched=["lr"]).files["model.weights"] == file
    assert job_inputs(one, [one, other], searched=["model"]).files["model.weights"] == folder


def test_named_weights_are_a_setting(config: Compose) -> None:
    inputs = job_inputs(config("model.weights=imagenet1k_v1"))
    assert inputs.overrides["model.weights"] == "imagenet1k_v1"
    assert "model.weights" not in inputs.files


def test_timm_is_installed_where_a_run_needs_it(config: Compose) -> None:
    base = config()
    other = replace(base, model=replace(base.model, library="timm", backbone="test_vit"))
    assert job_inputs(base).extras == ("heic",)
    assert job_inputs(other).extras == job_inputs(base, [base, other], searched=["model"]).extras == ("timm", "heic")


def test_nncf_is_installed_where_a_run_needs_it(config: Compose) -> None:
    assert job_inputs(config("features.precision=int8")).extras == ("int8", "heic")


def test_int8_is_refused_on_instances_with_a_gpu(config: Compose, launch: Launch) -> None:
    sent = config("features.precision=int8")
    launcher = Launcher(cast(Account, None), launch("sagemaker=rehearsal").sagemaker, Path())
    plan = JobPlan("job", job_inputs(sent), Task("train", 60), sent.debugger, "ml.g5.xlarge")
    with pytest.raises(ConfigError, match=r"ml\.g5\.xlarge.*features\.precision=bf16"):
        launcher.job(plan, {}, "")


def test_files_that_say_which_photos_there_are_become_channels(config: Compose, sample: Path, tmp_path: Path) -> None:
    photos = sorted(path.relative_to(sample) for path in sample.rglob("*.jpg"))
    excluded, labels = tmp_path / "audit.csv", tmp_path / "labels.csv"
    excluded.write_text(f"{photos[0]}\n")
    labels.write_text("file,breed\n" + "".join(f"{path},{path.parent.name}\n" for path in photos))
    named = f"data.exclude='{excluded}'", f"data.labels='{labels}'"
    sent = config(*named)
    inputs = job_inputs(sent)
    channels = inputs.channels()
    assert (channels["file-data-exclude"], channels["file-data-labels"]) == (excluded, labels)
    assert not {"data.exclude", "data.labels"} & inputs.overrides.keys()
    assert comparable(arrived(inputs, *places(sent), *named)) == comparable(sent)


def test_what_a_tuning_job_varies_stays_out(config: Compose) -> None:
    base = config()
    corners = [base, replace(base, lr=0.1), replace(base, model=replace(base.model, backbone="resnet18"))]
    inputs = job_inputs(base, corners, searched=["lr", "model", "seed"])
    assert set(job_inputs(base).overrides) - set(inputs.overrides) == {"lr", "model.backbone", "seed"}


def test_a_tuning_job_varies_no_files(config: Compose, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"")
    base = config()
    other = replace(base, model=replace(base.model, weights=str(tmp_path / "a.pth")))
    with pytest.raises(ConfigError, match=r"model\.weights: all trials of a tuning job get the same files"):
        job_inputs(base, [base, other])


def test_no_setting_is_longer_than_a_job_takes(config: Compose) -> None:
    sent = encode(job_inputs(config()).overrides)
    assert max(map(len, sent.values())) < 2000
    assert len(sent) < 60

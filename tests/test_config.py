"""The schema of a run: what is refused before anything is read, and in which words."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dogbreeds.config import load, load_saved, save
from dogbreeds.errors import ConfigError
from dogbreeds.run_directory import RUN_CONFIG
from dogbreeds.schema import TrainConfig, key_types
from tests.conftest import Compose


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("features.engine=fast", "must be one of auto, openvino, cuda, torch"),
        ("features.precision=fp16", "must be one of auto, fp32, bf16, int8"),
        ("features.batch_size=0", "must be at least 1"),
        ("data.views=-1", "must be at least 0"),
        ("data.workers=-1", "must be at least 0"),
        ("data.on_bad_image=ignore", "must be one of stop, skip"),
        ("cache.max_gb=0", "must be above 0"),
        ("cache.max_gb=-1", "must be above 0"),
        ("cache.max_gb=inf", "finite"),
        ("cache.max_gb=nan", "finite"),
        ("model.unfreeze=layer4", "must be one of fire2"),
        ("model.head=big", "must be one of linear, mlp"),
        ("batch_size=0", "must be at least 1"),
        ("lr=nan", "must be above 0"),
        ("lr=1e+38", "must be above 0 and at most 1e+30."),
        ("weight_decay=1e+39", "must be between 0 and 1000000.0."),
        ("model.unfreeze_lr_scale=1e+38", "must be above 0 and at most 1000000.0."),
        ("profiler.system_seconds=1e+300", "must be between 0.1 and 86400."),
    ],
)
def test_impossible_settings(config: Compose, override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(override)
    assert override in str(caught.value)
    assert said in str(caught.value)


def test_everything_that_is_wrong_is_said_at_once(config: Compose) -> None:
    with pytest.raises(ConfigError) as caught:
        config("features.engine=fast", "data.views=-1", "cache.max_gb=0", "epochs=0")
    assert len(str(caught.value).splitlines()) == 4


def test_int8_is_refused_before_anything_is_read(config: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dogbreeds.config.find_spec", lambda _: True)
    assert config("features.precision=int8", "features.engine=openvino").features.precision == "int8"
    monkeypatch.setattr("dogbreeds.config.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        config("features.precision=int8", "features.engine=torch")
    engine, missing = str(caught.value).splitlines()
    assert "it is torch" in engine and "features.precision=bf16" in engine
    assert "pip install 'dogbreeds[int8]'" in missing


@pytest.mark.parametrize("labels", ["kaggle", "labels.csv", "{root}", "{root}/train"])
def test_a_folder_in_place_of_a_table_names_the_table_in_it(config: Compose, tmp_path: Path, labels: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "labels.csv").write_text("id,breed\n")
    (tmp_path / "a.csv").write_text("no table")
    with pytest.raises(ConfigError) as caught:
        config(f"data.dir={tmp_path}", f"data.labels={labels.format(root=tmp_path)}")
    said = str(caught.value)
    assert said.endswith(f": data.dir={tmp_path} data.labels={tmp_path}/labels.csv") and "\n" not in said


@pytest.mark.parametrize("override", ["data.views=some", "features.batch_size=many", "cache.max_gb=all", "epochs=1.5"])
def test_words_for_numbers(config: Compose, override: str) -> None:
    with pytest.raises(Exception, match=override.split("=")[1]):
        config(override)


def test_defaults_that_leave_the_choice_open(config: Compose) -> None:
    """Engine, precision and batch follow the machine; features of all runs of a user are kept together."""
    found = config("cache.dir=${user_cache:}")
    assert (found.features.engine, found.features.precision, found.features.batch_size) == ("auto", "auto", None)
    assert (found.data.views, found.data.workers, found.model.unfreeze) == (0, None, None)
    assert Path(found.cache.dir).is_absolute()
    assert 1 < found.cache.max_gb < math.inf


def test_debugging_uses_no_features_of_other_runs_and_no_threads(config: Compose) -> None:
    found = config("trainer=debug")
    assert Path(found.cache.dir).is_relative_to(found.run_dir)
    assert (found.features.engine, found.data.workers, found.trainer.one_batch) == ("torch", 0, True)


def test_a_saved_config_is_read_back(config: Compose, tmp_path: Path) -> None:
    found = config("data.views=3", "features.engine=torch", "features.batch_size=7", "cache.max_gb=2.5")
    save(found, tmp_path / "run" / RUN_CONFIG)
    again = load(OmegaConf.create({"resume": found.run_dir}), [f"resume={found.run_dir}"])
    assert again.resume == found.run_dir
    again.resume = None
    assert again == found


def test_places_and_devices_can_be_named_with_resume(config: Compose, tmp_path: Path) -> None:
    begun, moved = config("lr=0.3"), tmp_path / "moved"
    save(begun, moved / RUN_CONFIG)
    now = {"data": {"dir": begun.data.dir}, "cache": {"dir": "here"}, "trainer": asdict(begun.trainer)}
    typed = OmegaConf.create({**now, "resume": str(moved / "checkpoints" / "last.ckpt"), "lr": 0.1})
    again = load(typed, ["resume=x", "cache.dir=here", "trainer=cpu"])
    assert (again.run_dir, again.cache.dir, again.lr, again.trainer) == (str(moved), "here", 0.3, begun.trainer)
    with pytest.raises(ConfigError, match=r"lr=0.1 cannot apply.*only data\.dir"):
        load(typed, ["resume=x", "lr=0.1"])


@pytest.mark.parametrize("old", ["data.augment=true", "cache.enabled=false"])
def test_a_run_of_another_version_cannot_be_continued(config: Compose, tmp_path: Path, old: str) -> None:
    path = tmp_path / "run" / RUN_CONFIG
    save(config(), path)
    saved = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist([old]))
    OmegaConf.save(saved, path)
    with pytest.raises(ConfigError, match=old.split("=")[0].split(".")[1]) as caught:
        load(OmegaConf.create({"resume": str(tmp_path / "run")}), ["resume=run"])
    assert len(str(caught.value).splitlines()) < 4


def test_a_run_from_before_loggers_and_callbacks_can_be_read(config: Compose, tmp_path: Path) -> None:
    found, path = config(), tmp_path / "run" / RUN_CONFIG
    save(found, path)
    saved = OmegaConf.load(path)
    del saved.logger, saved.callbacks, saved.trainer.arguments
    OmegaConf.save(saved, path)
    again = load(OmegaConf.create({"resume": found.run_dir}), [f"resume={found.run_dir}"])
    assert (again.lr, again.logger, again.callbacks, again.trainer.arguments) == (found.lr, {}, {}, {})


def test_a_run_from_before_libraries_can_be_read_and_not_continued(config: Compose, tmp_path: Path) -> None:
    found, path = config(), tmp_path / "run" / RUN_CONFIG
    save(found, path)
    saved = OmegaConf.load(path)
    del saved.model.library, saved.model.pool, saved.model.resolution, saved.model.crop, saved.features.mirror
    OmegaConf.save(saved, path)
    again = load_saved(path)
    assert (again.model, again.features) == (found.model, found.features)
    with pytest.raises(ConfigError, match="begun by an older version"):
        load(OmegaConf.create({"resume": found.run_dir}), [f"resume={found.run_dir}"])


def test_the_config_of_a_model_overrides_what_all_have(config: Compose) -> None:
    pytest.importorskip("timm")
    model = config("model=dinov2_small").model
    assert (model.library, model.pool, model.resolution) == ("timm", "token+mean", 224)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.backbone=resnet19"], "model.backbone=resnet19: unknown. Use one of resnet18, "),
        (
            ["model.backbone=tf_efficientnet_lite0"],
            "or for a network of timm model=timm model.backbone=<name>, or model=",
        ),
        (["model.weights=imagenet1k_v3"], "not one of imagenet, random, imagenet1k_v1 of squeezenet1_1"),
        (["model.pool=token+mean"], "model.pool=token+mean: needs model.library=timm"),
        (["features.mirror=true", "model.unfreeze=fire9"], "features.mirror=true: needs model.unfreeze=null"),
        (["model.pool=mean"], "model.pool=mean: must be one of head, token+mean."),
        (["model.crop=1.2"], "model.crop=1.2: must be between 0.1 and 1."),
        (["model.crop=0.0001"], "model.crop=0.0001: must be between 0.1 and 1."),
        (["model.resolution=-5"], "model.resolution=-5: must be between 1 and 2048."),
        (["model.resolution=20000"], "model.resolution=20000: must be between 1 and 2048."),
        (["model=timm"], "Add model.backbone=<value>: there is no default."),
        (["model=timm", "model.backbone=test_vi"], "no such network. Did you mean test_vit"),
        (["model=timm", "model.backbone=test_vit", "model.unfreeze=block9"], "Use one of stem, block0, "),
        (["model=timm", "model.backbone=test_resnet", "model.pool=token+mean"], "test_resnet has no class token"),
        (
            ["model=timm", "model.backbone=crossvit_tiny_240", "model.resolution=288"],
            "model.resolution=288: crossvit_tiny_240 does not take that size. That of its weights is 240.",
        ),
    ],
)
def test_backbones_that_there_are_not(config: Compose, overrides: list[str], said: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ConfigError) as caught:
        config(*overrides)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_names_of_all_settings() -> None:
    names = key_types(TrainConfig)
    assert {"data.views", "features.engine", "features.batch_size", "cache.dir", "cache.max_gb"} <= set(names)
    assert not {"data.augment", "cache.enabled"} & set(names)


def test_a_seed_that_torch_cannot_take(config: Compose) -> None:
    with pytest.raises(ConfigError, match=r"^seed=20261121140359: must be between 0 and 4294967295"):
        config("seed=20261121140359")
    assert config("seed=4294967295").seed == 2**32 - 1

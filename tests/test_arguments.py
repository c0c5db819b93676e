"""A command line in Hydra's grammar: names of files are literal, and a value is what its setting's type suggests."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from dogbreeds import arguments, composing
from dogbreeds.config import load_saved, save, unchecked
from dogbreeds.errors import ConfigError
from dogbreeds.overrides import override, paths_in, value_of

NAMES = (
    *("photos (1)", "run=3", "dogs,cats", "ann's dogs", "dogs[1]", "cats&dogs", "a@b+c%20d#e", "собаки 狗 🐶"),
    *("a${b}c", "a${b", "${oc.env:HOME}", "C:\\dogs\\new", "\udce9", "'quoted'", "{a:b}", "1e3", "choice(a,b)", '"'),
)


def read(argument: str, name: str = "launch", *options: str) -> Any:
    """What a setting is after Hydra has read the command line."""
    (typed, *_) = arguments.arranged([argument, *options], name)
    parsed = value_of(typed.partition("=")[2])
    return OmegaConf.to_container(OmegaConf.create({"value": parsed}), resolve=True)["value"]  # type: ignore[index, call-overload]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_what_was_typed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    assert read(f"data.dir={name}", "train") == name
    # A command that was printed is pasted, and may name what is gone.
    Path(name).unlink()
    (pasted,) = shlex.split(override("data.dir", name))
    assert read(pasted, "train", "-m") == name


@settings(deadline=None, max_examples=30)
@given(st.text(st.characters(exclude_characters="\0"), min_size=1))
def test_a_printed_command_has_any_text(text: str) -> None:
    (pasted,) = shlex.split(override("package", text))
    assert read(pasted, "predict") == text


def test_what_hydra_has_a_meaning_for_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    (tmp_path / "a,b").touch()
    assert read("data.dir='my dogs'") == read('data.dir="my dogs"') == "my dogs"
    assert read("data.exclude=null") is None and read("hydra.output_subdir=null") is None
    assert read("data.dir=${oc.env:HOME}/dogs (1)") == "/home/ann/dogs (1)"
    assert read("data.dir=~/dogs") == "/home/ann/dogs"
    assert arguments.arranged(["-m", "model.weights=x (1),imagenet", "data.dir=a,b"]) == [
        "model.weights='x (1)',imagenet",
        "data.dir='a,b'",
        "-m",
    ]
    assert arguments.arranged(["-m", "model.weights=choice(a,b)"])[0] == "model.weights=choice(a,b)"
    # As Hydra's own pages type it.
    plus = ["+experiment=fast", "++lr=0.1", "+trainer.max_time=1", "+hydra.job.env_set.A=1"]
    assert arguments.arranged(plus) == ["experiment=fast", "lr=0.1", "trainer.max_time=1", "+hydra.job.env_set.A=1"]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("sagemaker.tags={cost-center:0012, x y: a,b}", {"cost-center": "0012", "x y": "a,b"}),
        ("++sagemaker.tags.cost-center=1234", {"cost-center": "1234"}),
        ('sagemaker.tags={"a:b": "c, d"}', {"a:b": "c, d"}),
        ("sagemaker.environment={HF_HOME:$TMP/hf,U:http://a:80/b}", {"HF_HOME": "$TMP/hf", "U": "http://a:80/b"}),
        ("sagemaker.faults.throttled={CreateTrainingJob:2}", {"CreateTrainingJob": 2}),
        ("hpo.space={lr:choice(0.1,0.01)}", {"lr": "choice(0.1,0.01)"}),
        ("debugger.rules.Overfit={ratio_threshold:20}", {"ratio_threshold": 20}),
        ("sagemaker.subnets=a", ["a"]),
        ("sagemaker.subnets=a,b", ["a", "b"]),
        ("sagemaker.subnets=[a, b]", ["a", "b"]),
        ("model.hidden=512,256", [512, 256]),
        ("sagemaker.framework_version=2.10", "2.10"),
        ("trainer.devices=0,1", "0,1"),
    ],
)
def test_a_value_is_what_its_type_suggests(argument: str, expected: object) -> None:
    assert read(argument) == expected


def test_lists_of_paths_and_of_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b").touch()
    assert read("runs=a,b,c (1)", "report") == ["a,b", "c (1)"]
    assert read("settings=[data.dir=a b,lr=0.1]", "rehearse") == ["data.dir=a b", "lr=0.1"]
    assert paths_in("x,a,b, y") == ["x", "a,b", "y"]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("lr 0.1", "lr 0.1: settings are typed as key=value"),
        ("my key=3", "my key=3: settings are typed as key=value"),
        ("lr=0.1,0.2", "several values need -m"),
        ("data.dir=no,such", "several values need -m, and no file is called so"),
        ("experiment=null", "experiment=null: must be one of accurate, fast, .*, or left out"),
        ("model=[resnet18,resnet50]", r"model=\[resnet18,resnet50\]: must be one of .*, or left out"),
        ("hydra.sweep.dir=out", "hydra.sweep.dir=out has no effect without -m; use hydra.run.dir=out"),
        ("data.dir=", "data.dir=: name a directory"),
        ("hydra.run.dir=out/a${b}", r"has no \${ in it"),
        ("hydra.run.dir=out/\udce9", "UTF-8"),
        ("sagemaker.tags={größe: x}", "'größe' cannot be typed"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_argument(argument: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        arguments.arranged([argument], "launch")


@pytest.mark.parametrize("value", ["fast,null", "choice(1,fast)", "range(1,3)"])
def test_the_choices_of_a_group_are_names(value: str) -> None:
    with pytest.raises(ConfigError, match=r"must be one of accurate, fast, .*, or left out"):
        arguments.arranged(["-m", f"experiment={value}"])


def test_a_search_is_not_written_where_a_run_would_be() -> None:
    with pytest.raises(ConfigError, match=r"use hydra\.sweep\.dir=out"):
        arguments.arranged(["-m", "hydra.run.dir=out"])


def test_tables_take_further_keys_and_names_stay_literal(tmp_path: Path) -> None:
    typed = ["sagemaker.tags.team=1234", "debugger.rules.Overfit.patience=5", f"data.dir={tmp_path}/a${{b", "run_dir=x"]
    with composing.initialized("launch"):
        composed = compose("launch", arguments.arranged(typed, "launch"))
    assert composed.sagemaker.tags == {"team": "1234"}
    config = unchecked(composed)
    assert config.data.dir == f"{tmp_path}/a${{b" and config.debugger.rules["Overfit"]["patience"] == 5
    save(config, tmp_path / "config.yaml")
    assert load_saved(tmp_path / "config.yaml") == config

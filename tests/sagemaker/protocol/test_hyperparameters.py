"""What is sent as hyperparameters comes back as it was, with its type."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from dogbreeds.errors import ConfigError
from dogbreeds.overrides import hydra_value
from dogbreeds.sagemaker.protocol import hyperparameters as wire

LOOKALIKES = ["1", "-0", "1e-3", "true", "False", "null", "NaN", "Infinity", "inf", "", " ", " a ", '"a"', "'", '"']
LOOKALIKES += ["[1, 2]", '{"a": 1}', "a=b", "a,b", "choice(1,2)", "interval(1,2)", "{a:b}", "a: b", "[" * 2000]
LOOKALIKES += ["${lr}", "\\${lr}", "a\\ ${x} \\", "$x", "line\nbreak", "tab\t", "größe 犬 🐕", "it's", "a\\'b"]
LOOKALIKES += ["\\", "\\\\", "~x", "+x", "#", "???"]

texts = st.sampled_from(LOOKALIKES) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True).filter(lambda name: hydra_value(name) == name)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
simple = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    simple, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
).filter(lambda value: len(json.dumps(value)) <= 2500)


def read(override: str) -> Any:
    """What Hydra and OmegaConf make of an override."""
    parsed = OverridesParser.create().parse_override(override)
    assert not parsed.is_sweep_override()
    assert parsed.key_or_group == "model.weights"
    return OmegaConf.to_container(OmegaConf.create({"value": parsed.value()}), resolve=True)["value"]  # type: ignore[index, call-overload]


def parse(hyperparameters: Mapping[str, str]) -> dict[str, object]:
    """Parses hyperparameters as the toolkit does for the variable `SM_HPS`."""

    def parsed(text: str) -> object:
        try:
            return json.loads(text)
        except ValueError:
            return text

    return {name: parsed(text) for name, text in hyperparameters.items()}


def same(one: Any, other: Any) -> bool:
    """Equality that tells 1 from 1.0 and from true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@given(values)
@settings(deadline=None, max_examples=300)
def test_values_come_back_as_they_were(value: Any) -> None:
    (override,) = wire.decode(parse(wire.encode({"model.weights": value})))
    # OmegaConf's mark of a missing value is no value.
    if "???" not in json.dumps(value):
        assert same(read(override), value)


@pytest.mark.parametrize("text", LOOKALIKES)
def test_texts_that_look_like_something_else(text: str) -> None:
    assert parse(wire.encode({"model.weights": text})) == {"model.weights": text}
    assert read(wire.decode({"model.weights": text})[0]) == text or text == "???"


@pytest.mark.slow
@given(value=values)
@example(value="[" * 2000)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_toolkit_decodes_the_same(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    from sagemaker_training import environment, mapping

    logging.getLogger("sagemaker-training-toolkit").setLevel(logging.WARNING)
    sent = wire.encode({"model.weights": value})
    file = tmp_path / "hyperparameters.json"
    file.write_text(json.dumps(sent), encoding="utf-8")
    monkeypatch.setattr(environment, "hyperparameters_file_dir", str(file))
    hps = environment.read_hyperparameters()
    variables = mapping.to_env_vars({"hps": hps, **{f"hp_{name}": one for name, one in hps.items()}})
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    mapping.to_cmd_args(hps)
    given_to_the_script = json.loads(variables["SM_HPS"])
    assert given_to_the_script == parse(sent)
    (override,) = wire.decode(given_to_the_script)
    assert "???" in json.dumps(value) or same(read(override), value)


def test_plain_values_stay_readable() -> None:
    sent = wire.encode({"lr": 1e-07, "seed": 1, "model.unfreeze": None, "optimizer": "adam", "debugger.record": True})
    assert sent == {
        "lr": "1e-07",
        "seed": "1",
        "model.unfreeze": "null",
        "optimizer": "adam",
        "debugger.record": "true",
    }


def test_what_a_tuning_job_chose_becomes_overrides() -> None:
    chosen = {"lr": "0.00123", "optimizer": '"adamw"', "model": "resnet18", "epochs": "7", "model.hidden": "[256, 64]"}
    assert wire.decode(parse(chosen)) == [
        "epochs=7",
        "lr=0.00123",
        "model=resnet18",
        "model.hidden=[256,64]",
        "optimizer=adamw",
    ]


def test_settings_of_this_machine_are_not_sent() -> None:
    here = [
        "hydra.run.dir",
        "sagemaker.role",
        "attach",
        "stop",
        "best_of",
        "resume",
        "run_dir",
        "cache.dir",
        "data.dir",
    ]
    here += ["debugger.managed", "hpo", "hpo.trials", "hydra/launcher", "paths"]
    assert wire.encode(dict.fromkeys(here, 1) | {"cache.max_gb": 2}) == {"cache.max_gb": "2"}


def test_what_is_no_setting_never_reaches_the_overrides() -> None:
    others = {"sagemaker_program": "x.py", "_tuning_objective_metric": "val/loss", "dogbreeds_task": "train"}
    assert wire.decode(others) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("lr", float("inf"), "lr=inf"),
        ("lr", float("nan"), "lr=nan"),
        ("model.hidden", [1, float("inf")], "model.hidden="),
        ("model.weights", "a\0b", "null character"),
        ("model.weights", "\ud800", "model.weights="),
        ("debugger.rules", {"größe": 1}, "'größe' cannot be typed"),
        ("debugger.rules", {"true": 1}, "'true' cannot be typed"),
        ("model.weights", Path("x"), "model.weights="),
        ("a-b", 1, "a-b is not a valid hyperparameter name"),
    ],
)
def test_what_no_job_takes_is_refused_by_name(name: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        wire.encode({name: value})
    assert said in str(caught.value)


def test_values_as_long_as_the_service_takes() -> None:
    assert len(wire.encode({"model.weights": "x" * 2500})["model.weights"]) == 2500

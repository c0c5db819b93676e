"""The commands: every shipped config, every wrong input, what they leave behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from torchvision import models

from dogbreeds import composing
from dogbreeds.command_schemas import SCHEMAS, LaunchCommandConfig
from dogbreeds.commands import COMMANDS
from dogbreeds.constraints import OneOf, settings
from dogbreeds.installation import script_of
from dogbreeds.schema import TrainCommandConfig, key_types
from tests.commands.typed import Typed, run, succeeded
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SMALL = ["model=squeezenet1_1", "model.weights=random", "trainer=cpu", "epochs=2", "batch_size=12"]


def metrics_of(directory: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((directory / "metrics.json").read_text())
    return values


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


@pytest.mark.parametrize("group", ["data", "model", "trainer", "debugger", "profiler", "hpo", "experiment"])
def test_every_shipped_config_composes(group: str) -> None:
    composing.register()
    for choice in choices(group):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            composed = compose("train", [f"{group}={choice}", "run_dir=somewhere"])
        missing = [name for name in key_types(TrainCommandConfig) if _lookup(composed, name) == "???"]
        # The one that leaves the name of a network to the user.
        assert missing == (["model.backbone"] if (group, choice) == ("model", "timm") else []), (group, choice)


def test_every_place_of_jobs_composes() -> None:
    composing.register()
    for choice in choices("sagemaker"):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            composed = compose("launch", [f"sagemaker={choice}", "debugger=aws", "run_dir=somewhere"])
        missing = [name for name in key_types(LaunchCommandConfig) if _lookup(composed, name) == "???"]
        assert not missing, choice


# What has no default.
NEEDED = {"serve": ["package=m"], "export": ["package=m", "format=onnx", "out=m.onnx"]}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("serve package=m port=abc", "port=abc: must be a whole number"),
        ("serve package=m prot=1", "Did you mean port"),
        ("serve package=m limits.photo=1", "Did you mean limits.photos"),
        ("serve", "Add package=<value>: there is no default"),
        ("export package=3", "Add format=<value>, out=<value>: there is no default"),
        ("export package=3 form=onnx", "Did you mean format"),
    ],
)
def test_settings_of_serving_that_cannot_be(command: str, said: str) -> None:
    script, *settings = command.split()
    done = run(f"scripts/{script}.py", *settings)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "conf").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_command_has_a_config_that_composes(path: Path) -> None:
    with initialize_config_dir(str(path.parent), version_base="1.3"):
        trains = issubclass(SCHEMAS[path.stem], TrainCommandConfig)
        composed = compose(path.stem, ["run_dir=somewhere"] if trains else NEEDED.get(path.stem, []))
    assert not [name for name in key_types(SCHEMAS[path.stem]) if _lookup(composed, name) == "???"]
    assert f"    {path.stem}()\n" in (ROOT / script_of(path.stem)).read_text()
    assert path.stem in COMMANDS


def _lookup(config: object, dotted: str) -> object:
    return OmegaConf.select(config, dotted, default="???")  # type: ignore[arg-type]


def test_the_recipes_have_the_values_of_the_systems_they_reproduce() -> None:
    composing.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        vgg = compose("train", ["experiment=vgg16_stanford"])
        resnet18 = compose("train", ["experiment=resnet18_stanford"])
        resnet50 = compose("train", ["experiment=resnet50_udacity"])
    assert (vgg.model.backbone, vgg.lr, vgg.batch_size, vgg.epochs) == ("vgg16", 0.0053945745752048664, 256, 7)
    assert (resnet18.model.backbone, resnet18.lr) == ("resnet18", vgg.lr)
    assert resnet50.model.backbone == "resnet50"
    assert {vgg.model.head, resnet18.model.head, resnet50.model.head} == {"mlp"}


def test_the_command_line_beats_a_recipe() -> None:
    composing.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", ["experiment=vgg16_stanford", "lr=0.5", "model=resnet34"])
    assert (config.lr, config.model.backbone, config.epochs) == (0.5, "resnet34", 7)


def test_help_names_every_key_and_choice_and_imports_nothing_heavy() -> None:
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "train.py", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0
    for setting in settings(TrainCommandConfig):
        (line,) = re.findall(rf"^  {re.escape(setting.name)}  .*(?:\n    .*)*", answer.stdout, re.MULTILINE)
        described = " ".join(line.split())
        if isinstance(setting.constraint, OneOf):
            assert all(value in described for value in setting.constraint.values), described
        elif setting.constraint is not None:
            assert described.endswith(str(setting.constraint))
    for group in ("data", "model", "trainer", "debugger", "profiler", "hpo", "experiment"):
        assert f"{group}: {', '.join(choices(group))}" in answer.stdout
    imported = {line.split("|")[-1].strip().split(".")[0] for line in answer.stderr.splitlines() if "|" in line}
    assert not imported & {
        "torch",
        "torchvision",
        "timm",
        "pytorch_lightning",
        "numpy",
        "PIL",
        "matplotlib",
        "optuna",
        "rich",
    }


@pytest.mark.ci
def test_prediction_goes_on_after_an_unreadable_file(sample: Path, tmp_path: Path) -> None:
    trained, kept = tmp_path / "run", tmp_path / "kept"
    here = (f"data.dir={sample}", f"cache.dir={tmp_path / 'cache'}", f"hydra.run.dir={trained}")
    succeeded("train.py", *here, *SMALL, "features.engine=openvino")
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(next((sample / "test").rglob("*.jpg")), folder / "b.jpg")
    (folder / "a.jpg").write_text("no image")
    ask = ("scripts/predict.py", f"package={trained / 'model'}", f"images={folder}", f"cache.dir={kept}")
    answer = run(*ask)
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    assert answer.returncode == 1
    assert "error" in lines[0] and "breed" in lines[1]
    assert len(lines[1]["top"]) == 3
    # The converted network is kept where it was asked for, and gives the same answers.
    networks = sorted(path.name for path in (kept / "artefacts").iterdir())
    assert len(networks) == 2
    assert run(*ask).stdout == answer.stdout
    assert sorted(path.name for path in (kept / "artefacts").iterdir()) == networks
    # A run means its package.
    assert run("scripts/predict.py", f"package={trained}", *ask[2:]).stdout == answer.stdout
    assert run("scripts/predict.py", f"package={folder}", f"images={folder}").returncode == 2


@pytest.mark.ci
def test_features_are_prepared_used_listed_and_pruned(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word about where they are kept: in the place for all runs of a user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    store = Path(platformdirs.user_cache_dir("dogbreeds"))
    here = (f"data.dir={sample}", *SMALL)
    said = succeeded("scripts/prepare_features.py", *here)
    assert "3 breeds in" in said
    assert "features 72/72" in said
    assert "72 computed, 0 reused" in said
    assert f"They are in {store}" in said
    assert not list(ROOT.glob("prepare_features*"))

    said = succeeded("train.py", *here, f"hydra.run.dir={tmp_path / 'run'}")
    assert "0 computed, 72 reused" in said
    features = metrics_of(tmp_path / "run")["features"]
    assert (features["computed"], features["reused"]) == (0, 72)

    listed = succeeded("scripts/cache.py")
    (line,) = [line for line in listed.splitlines() if "squeezenet1_1" in line]
    for words in (f"{features['engine']} {features['precision']}", "evaluation", " 72 ", " MB "):
        assert words in line
    assert f"{store}: 0.00 of 20 GB" in listed

    said = succeeded("scripts/cache.py", "action=prune")
    assert "Removed the features of 0 photos" in said
    assert line in said
    said = succeeded("scripts/cache.py", "action=prune", "days=0")
    assert re.search(r"Removed the features of 72 photos and freed 0\.[1-9] MB", said)
    assert "squeezenet1_1" not in said


def test_help_of_the_scripts_for_features() -> None:
    said = succeeded("scripts/prepare_features.py", "--help")
    assert "python scripts/prepare_features.py data.dir=photos model=resnet50" in said
    assert "action" in succeeded("scripts/cache.py", "--help")


def wrong_inputs(sample: Path, tmp_path: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Name: (overrides, what the message must say)."""

    def copy(name: str) -> Path:
        target = tmp_path / name
        shutil.copytree(sample, target)
        return target

    empty = tmp_path / "empty"
    empty.mkdir()
    lacking = copy("lacking")
    missing = sorted((lacking / "valid").iterdir())[0]
    shutil.rmtree(missing)
    corrupt = copy("corrupt")
    damaged = next((corrupt / "train").rglob("*.jpg"))
    damaged.write_bytes(damaged.read_bytes()[:300])
    other = tmp_path / "resnet18.pth"
    torch.save(models.resnet18(weights=None).state_dict(), other)
    here = f"data.dir={sample}"

    def folder(path: Path) -> str:
        return f"data.dir='{path}'"

    return {
        "no such directory": (["data.dir=nowhere"], ["nowhere", "no such directory", "get_data.py"]),
        "no images": ([folder(empty)], ["no photos in class folders", ".jpg"]),
        "a class missing in valid": ([folder(lacking)], ["valid", missing.name]),
        "a corrupt file": ([folder(corrupt), "data.on_bad_image=stop"], [damaged.name, "data.on_bad_image=skip"]),
        "other weights": ([here, f"model.weights={other}"], ["missing features.0.weight", "model=resnet18"]),
        "no such weights": ([here, "model.weights=gone.pth"], ["gone.pth", "no such file", "imagenet"]),
        "unknown key": ([here, "learning_rate=1"], ["learning_rate", "lr"]),
        "unknown key, added": ([here, "+color=1"], ["color"]),
        "unknown model": ([here, "model=resnet5"], ["resnet5", "resnet50"]),
        "unknown recipe": ([here, "experiment=none"], ["vgg16_stanford"]),
        "all at once": ([here, "lr=nan", "epochs=0"], ["lr=nan", "epochs=0"]),
        "a setting of an older version": ([here, "data.augment=true"], ["'data.augment'", "data.views"]),
        "no place for features": ([here, f"cache.dir={other}"], [f"cache.dir={other}", "cannot be used"]),
        "resume elsewhere": ([f"resume={empty}"], ["config.yaml", "not a run directory"]),
        "resume nowhere": (["resume=nowhere"], ["resume=nowhere: no such directory."]),
        "a head that fills memory": ([here, "model.head=mlp", "model.hidden=[1000000000]"], ["widths up to 16,384"]),
    }


def test_wrong_inputs_end_with_a_message_and_code_2(sample: Path, tmp_path: Path) -> None:
    for number, (name, (overrides, said)) in enumerate(wrong_inputs(sample, tmp_path).items()):
        model = [] if any(o.startswith(("model=", "resume=")) for o in overrides) else ["model=squeezenet1_1"]
        weights = "model.weights=random"
        if any(o.startswith(("model.weights=", "resume=")) for o in overrides):
            answer = run("train.py", *model, *overrides, f"hydra.run.dir={tmp_path / str(number)}")
        else:
            answer = run("train.py", *model, weights, *overrides, f"hydra.run.dir={tmp_path / str(number)}")
        assert answer.returncode == 2, (name, answer.stderr)
        for words in said:
            assert words in answer.stderr, (name, answer.stderr)
        assert "Traceback" not in answer.stderr
        assert not (tmp_path / str(number) / "metrics.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scripts/cache.py", "action=clear"], ["action=clear", "list, prune"]),
        (["scripts/cache.py", "cache.dir=nowhere"], ["cache.dir=nowhere", "no features are kept there yet"]),
        (["scripts/cache.py", "day=3"], ["'day'", "days"]),
        (["scripts/cache.py", "action=prune", "days=soon"], ["days=soon: must be a number."]),
        (["scripts/cache.py", "action=prune", "days=-1"], ["days=-1", "at least 0"]),
        (["scripts/cache.py", "cache.dir=conf"], ["cache.dir=conf", "no features are kept there yet"]),
        (["scripts/report.py"], ["run=<directory>", "runs=<one>,<another>"]),
        (["scripts/report.py", "run=conf"], ["run=conf", "not a run directory"]),
        (["scripts/report.py", "runs=conf,src"], ["conf", "config.yaml"]),
        (["scripts/report.py", "runs=conf"], ["two or more run directories"]),
        (["scripts/audit.py", "data=sample", "data.exclude=nowhere.csv"], ["data.exclude=nowhere.csv: no such file"]),
        (["scripts/audit.py", "data=sample", "out=conf"], ["out=conf: that is a folder"]),
        (["scripts/prepare_features.py", "data.dir=nowhere"], ["nowhere", "no such directory"]),
        (["scripts/prepare_features.py", "features.engin=torch"], ["'features.engin'", "features.engine"]),
        (["scripts/predict.py", "package=nowhere", "images=nowhere"], ["package=nowhere", "no model.json there"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("scripts") else "",
)
def test_wrong_inputs_of_the_scripts(arguments: list[str], said: list[str]) -> None:
    answer = run(*arguments)
    assert answer.returncode == 2, answer.stderr
    assert all(words in answer.stderr for words in said), answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (ROOT / "nowhere").exists()


@pytest.mark.ci
def test_an_audit_that_finds_nothing_advises_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for place in ("train/red", "train/blue", "valid/red", "valid/blue", "test/red", "test/blue"):
        (folder := tmp_path / "photos" / place).mkdir(parents=True)
        colour = (230, 20, 20) if folder.name == "red" else (20, 20, 230)
        for number in range(4):
            pixels = np.array(colour) + noise.integers(-20, 20, (64, 64, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    typed = [f"data.dir={tmp_path / 'photos'}", *SMALL, f"cache.dir={tmp_path / 'cache'}"]
    said = succeeded("scripts/audit.py", *typed, f"out={tmp_path / 'audit.csv'}").splitlines()
    assert said[-1] == f"{tmp_path / 'audit.csv'} has no rows: there is nothing to leave out."


@pytest.mark.ci
def test_the_audit_says_how_to_train_without_what_it_found(sample: Path, tmp_path: Path) -> None:
    photos = Path(shutil.copytree(sample, tmp_path / "my (dog's) photos"))
    typed = [f"data.dir='{str(photos).replace(chr(39), chr(92) + chr(39))}'", *SMALL, f"cache.dir={tmp_path / 'cache'}"]
    first, second = tmp_path / "audit.csv", tmp_path / "audit-2.csv"
    looked, said = succeeded("scripts/audit.py", *typed, f"out={first}").splitlines()[-2:]
    assert looked.startswith(f"They are in {first}. Look at them first: ")
    # The drawn photos have no copies to find.
    wrong = next((photos / "train").rglob("*.jpg")).relative_to(photos).as_posix()
    first.write_text(f"path\n{wrong}\n")
    python, *words = shlex.split(said.partition("those that are right. Then leave out the others: ")[2])
    assert (python, words[-1]) == ("python", f"data.exclude={first}")
    succeeded(*words, f"hydra.run.dir={tmp_path / 'run'}")
    assert metrics_of(tmp_path / "run")["images"]["train"] == 35

    refused = run("scripts/audit.py", *typed, f"data.exclude={first}", f"out={tmp_path}/../{tmp_path.name}/audit.csv")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1 and "would overwrite what data.exclude reads: add out=" in refused.stderr
    assert first.read_text() == f"path\n{wrong}\n"
    said = succeeded("scripts/audit.py", *typed, f"data.exclude={first}", f"out={second}").splitlines()[-1]
    assert f"Then add the paths of the others to {first}: python train.py " in said
    assert shlex.split(said)[-1] == f"data.exclude={first}"
    assert wrong not in second.read_text()


@pytest.mark.ci
def test_a_run_killed_between_epochs_continues_as_if_it_never_stopped(sample: Path, tmp_path: Path) -> None:
    settings = [f"data.dir={sample}", *SMALL, "epochs=60", "patience=60", "model.head=mlp"]
    whole = run("train.py", *settings, f"hydra.run.dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    directory = tmp_path / "killed"
    process = Typed("train.py", *settings, f"hydra.run.dir={directory}")
    deadline = time.monotonic() + 120
    while not (directory / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (directory / "metrics.json").exists(), "the run ended before it could be killed"
    resumed = run("train.py", f"resume={directory}")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from" in resumed.stdout
    metrics = [metrics_of(tmp_path / name) for name in ("whole", "killed")]
    assert metrics[1]["features"]["computed"] == 0
    for values in metrics:
        del values["seconds"], values["features"]
    assert metrics[0] == metrics[1]
    steps = [int(line.split(",")[1]) for line in (directory / "history.csv").read_text().splitlines()[1:]]
    assert len(steps) == 60
    assert all(after - before == 3 for before, after in pairwise(steps))

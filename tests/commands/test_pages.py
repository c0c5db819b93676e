"""What the README and the pages of docs/ promise: their commands, their Python, their make targets."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra import compose
from omegaconf import OmegaConf

from dogbreeds import arguments, composing
from dogbreeds.commands import COMMANDS
from dogbreeds.hpo.resuming import planned
from dogbreeds.installation import script_of
from tests.commands.test_commands import SMALL, metrics_of
from tests.commands.typed import run, succeeded
from tests.conftest import ROOT
from tests.kaggle import kaggle

PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
SCRIPTS = {script_of(name): name for name in COMMANDS}


def commands() -> list[tuple[str, ...]]:
    """Returns the words behind `python` of each command, once."""
    text = "\n".join(PAGES[name] for name in sorted(PAGES))
    lines = "".join(re.findall(r"```(?:bash|console)\n(.*?)```", text, re.DOTALL)).splitlines()
    lines += re.findall(r"^\|[^|]*\| `(python [^`]*)` \|$", text, re.MULTILINE)
    typed = [shlex.split(line.removeprefix("$ "), comments=True)[1:] for line in lines if "python " in line[:9]]
    return list(dict.fromkeys(map(tuple, typed)))


def test_the_pages_show_what_there_is_to_type() -> None:
    typed = [" ".join(words) for words in commands()]
    for promised in ("train.py -m hpo=bayes", "train.py best_of=", "launch_sagemaker.py -m hpo=bayes"):
        assert any(line.startswith(promised) for line in typed), promised
    assert set(SCRIPTS) == {line.partition(" ")[0] for line in typed}


def without(words: Sequence[str], *names: str) -> list[str]:
    return [word for word in words if not word.startswith(tuple(f"{name}=" for name in names))]


@pytest.mark.slow
def test_every_command_of_the_pages_is_taken(sample: Path, tmp_path: Path) -> None:
    """Its config composes, and a search has a plan; what commands do is tested elsewhere, but for those below."""
    for script, *words in commands():
        name, searches = SCRIPTS[script], "-m" in words and script == "train.py"
        # What best_of and resume name is not there.
        kept = without(words, "best_of", "resume")
        if not kept or "--help" in words or (searches and len(kept) < len(words)):
            continue
        kept = [*without(kept, "data.dir"), f"data.dir={sample}"] if searches else kept
        arranged = arguments.arranged([word for word in kept if word != "-m"], name, several="-m" in words)
        with composing.initialized(name, arranged) as loader:
            if searches:
                master = compose(name, [f"hydra.sweep.dir={tmp_path}"], return_hydra_config=True)
                assert planned(arranged, master, loader)[0].space, words
            else:
                compose(name, arranged)


@pytest.mark.ci
def test_the_training_commands_of_the_pages_run(sample: Path, tmp_path: Path) -> None:
    """On small photos and a small network; what a single run can have at once, one run has."""
    training = [words for script, *words in commands() if script == "train.py" and "--help" not in words]
    # SMALL has its own photos and network; files that leave out photos are tested with the audit, most searches in hpo.
    typed = [
        without(words, "data", "data.dir", "data.labels", "data.exclude", "model", "model.weights", "trainer")
        for words in training
    ]
    single = [words for words in typed if "-m" not in words and words[:1] != ["experiment=fast"]]
    alone = {tuple(words) for words in single if words and words[0].startswith(("debug=", "experiment="))}
    together = [word for words in single if tuple(words) not in alone for word in without(words, "resume", "best_of")]
    assert {"features.mirror=true", "profiler=trace", "logger=[csv,mlflow]", "callbacks=lr_monitor"} <= set(together)
    assert alone == {("debug=one_batch",), ("experiment=vgg16_stanford",)}
    here, trained, searched = f"data.dir={sample}", tmp_path / "run", tmp_path / "search"
    for number, words in enumerate(sorted(alone)):
        succeeded("train.py", *words, here, *SMALL, f"hydra.run.dir={tmp_path / str(number)}")
    labels = kaggle(sample, tmp_path / "kaggle", splits=False)
    by_table = f"data.dir={labels.parent}", f"data.labels={labels}"
    succeeded("train.py", *dict.fromkeys(together), *by_table, *SMALL, f"hydra.run.dir={trained}")
    succeeded("train.py", f"resume={trained}")
    succeeded("train.py", "-m", "lr=0.01,0.001", here, *SMALL, f"hydra.sweep.dir={searched}")
    succeeded("train.py", "-m", f"resume={searched}")
    succeeded("train.py", f"best_of={searched}", f"hydra.run.dir={tmp_path / 'best'}")
    assert metrics_of(tmp_path / "best")["val/loss"] == OmegaConf.load(searched / "best.yaml").value
    said = run("scripts/predict.py", f"package={trained}", f"images={next((sample / 'test').rglob('*.jpg'))}")
    assert json.loads(said.stdout)["breed"]
    submission = f"images={labels.parent / 'test'}", f"out={tmp_path / 'submission.csv'}", "format=kaggle"
    assert "18 photos and 3 classes" in succeeded("scripts/predict.py", f"package={trained}", *submission)
    succeeded("scripts/export.py", f"package={trained}", "format=onnx", f"out={tmp_path / 'dogs.onnx'}")


@pytest.mark.ci
def test_the_python_of_the_pages_runs(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, but for a small network with random weights."""
    (tmp_path / "photos").symlink_to(sample)
    shutil.copy(next((sample / "test").rglob("*.jpg")), tmp_path / "dog.jpg")
    small = ("model=squeezenet1_1", "model.weights=random", "trainer=cpu", "epochs=1", f"cache.dir={tmp_path}/cache")
    # That of the service in place of AWS runs where it is tested.
    blocks = [re.findall(r"```python\n(.*?)```", PAGES[name], re.DOTALL) for name in PAGES if name != "rehearsals.md"]
    code = "\n".join(dict.fromkeys(block for page in blocks for block in page))
    assert "load(run.directory).predict" in code and "pl.Trainer(max_epochs=3).fit" in code
    code = code.replace('"model=resnet18"', ", ".join(f'"{setting}"' for setting in small))
    code = code.replace('model="resnet18", weights="imagenet"', 'model="squeezenet1_1", weights="random"')
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "pages.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "pages.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    # Beside the lines of the search and of Lightning: the accuracy and a breed.
    assert re.search(r"^[01]\.\d+ [A-Z]\w+", done.stdout, re.MULTILINE), done.stdout


def test_make_targets_of_the_pages_exist() -> None:
    targets = set(re.findall(r"(?:`|^|\$ )make ([a-z-]+)", "\n".join(PAGES.values()), re.MULTILINE))
    assert {"demo", "test", "install", "lint", "docs"} <= targets
    known = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert targets <= known

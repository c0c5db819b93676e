"""Searches as a person starts, stops and continues them."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from dogbreeds import composing
from dogbreeds.hpo.rendering import parameter_ranges
from dogbreeds.hpo.space import Space, parse
from tests.commands.test_commands import metrics_of, run, succeeded
from tests.conftest import ROOT
from tests.hpo.ranges import RESNET50, VGG16

pytestmark = pytest.mark.slow

SECONDS = 120


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def small(sample: Path, cache: Path) -> list[str]:
    here = [f"data.dir={sample}", f"cache.dir={cache}"]
    return [*here, "model=squeezenet1_1", "model.weights=random", "trainer=cpu"]


def states(directory: Path) -> dict[int, str]:
    try:
        with (directory / "leaderboard.csv").open() as file:
            return {int(row["trial"]): row["state"] for row in csv.DictReader(file)}
    except FileNotFoundError:
        return {}


# A search whose third trial never gets beyond its first epoch.
HANGING = """
import runpy, time
from dogbreeds.hpo.local import Progress

follow = Progress.__call__

def hang(self, row):
    if self._number == 2:
        time.sleep(3600)
    return follow(self, row)

Progress.__call__ = hang
runpy.run_path("train.py", run_name="__main__")
"""


def hanging(arguments: list[str], directory: Path) -> subprocess.Popen[str]:
    """Starts a search and waits until two of its trials are finished."""
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, "-m", *arguments, f"hydra.sweep.dir={directory}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, Ctrl-C is ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + SECONDS
    while len(states(directory)) < 2 and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    assert len(states(directory)) == 2
    return process


@pytest.mark.ci
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_search_that_is_stopped_goes_on(number: signal.Signals, small: list[str], tmp_path: Path) -> None:
    asked = 4
    process = hanging([*small, "hpo=random", f"hpo.trials={asked}", "epochs=2"], tmp_path)
    process.send_signal(number)
    said, complained = process.communicate(timeout=SECONDS)
    kept = {n: state for n, state in states(tmp_path).items() if state == "finished"}
    assert len(kept) == 2
    before = {n: (tmp_path / str(n) / "metrics.json").read_bytes() for n in kept}
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"Continue with: python train.py -m resume={tmp_path}" in complained
        assert "Traceback" not in complained
        assert "best: trial" in said
        assert (tmp_path / "search.html").is_file()
    said = succeeded("train.py", "-m", f"resume={tmp_path}")
    after = states(tmp_path)
    assert sum(state == "finished" for state in after.values()) == asked
    assert set(after.values()) <= {"finished", "interrupted"}
    best = int(re.search(r"best: trial (\d+)", said)[1])  # type: ignore[index]
    assert all(
        (tmp_path / str(n) / "metrics.json").read_bytes() == content for n, content in before.items() if n != best
    )
    assert (tmp_path / "search.html").is_file()


@pytest.mark.ci
def test_best_values_can_be_changed_and_searched_on(small: list[str], tmp_path: Path) -> None:
    search = tmp_path / "search"
    succeeded("train.py", "-m", *small, "lr=0.1,0.01", "epochs=2", f"hydra.sweep.dir={search}")
    run_dir = tmp_path / "run"
    succeeded("train.py", f"best_of={search / 'best.yaml'}", "epochs=1", f"hydra.run.dir={run_dir}")
    assert metrics_of(run_dir)["epochs"] == 1
    said = succeeded("train.py", "-m", f"best_of={search}", "seed=1,2", f"hydra.sweep.dir={tmp_path / 'seeds'}")
    assert "2 finished" in said
    best = (tmp_path / "seeds" / "best.yaml").read_text()
    assert "lr=" in best and "seed=" in best and "- best_of" not in best


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["best_of=nowhere"], ["best_of=nowhere", "best.yaml"]),
        (["best_of=a b="], ["best_of=a b=", "there is no best.yaml"]),
        (["-m"], ["nothing to search", "hpo=bayes"]),
        (["-m", "hpo=bayes", "rate=1,2"], ["rate"]),
        (["-m", "resume=nowhere"], ["resume=nowhere: no such directory."]),
        (["-m", "hpo=fast"], ["hpo=fast", "bayes"]),
        (["-m", "model=glob(none*)"], ["model=glob(none*)", "nothing in it"]),
    ],
)
def test_mistakes_end_with_a_message_and_leave_nothing(
    arguments: list[str], said: list[str], small: list[str], tmp_path: Path
) -> None:
    elsewhere = [] if any("of=" in one or "resume=" in one for one in arguments) else small
    place = [f"hydra.sweep.dir={tmp_path / 'search'}", f"hydra.run.dir={tmp_path / 'run'}"]
    answer = run("train.py", *arguments, *elsewhere, *place)
    assert answer.returncode == 2, answer.stderr
    assert all(words in answer.stderr for words in said), answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "search").exists()


@pytest.mark.ci
def test_a_run_is_not_resumed_as_a_search_nor_the_other_way_round(small: list[str], tmp_path: Path) -> None:
    succeeded("train.py", "-m", *small, "lr=0.1,0.01", "epochs=1", f"hydra.sweep.dir={tmp_path}")
    answer = run("train.py", f"resume={tmp_path}")
    assert (answer.returncode, "python train.py -m resume=" in answer.stderr) == (2, True)
    answer = run("train.py", "-m", *small, "lr=0.5,0.2", f"hydra.sweep.dir={tmp_path}")
    assert (answer.returncode, "holds a search already" in answer.stderr) == (2, True)
    answer = run("train.py", "-m", f"resume={tmp_path / '0'}")
    assert (answer.returncode, "not a search" in answer.stderr) == (2, True)


def test_a_glob_over_backbones_and_a_flag_in_the_middle(small: list[str], tmp_path: Path) -> None:
    others = [one for one in small if one != "model=squeezenet1_1"]
    said = succeeded("train.py", *others, "-m", "model=glob(squeeze*)", "epochs=1", f"hydra.sweep.dir={tmp_path}")
    assert "1 finished; best: trial 0" in said
    assert "model=squeezenet1_1" in said


@pytest.mark.ci
@pytest.mark.parametrize("search", [True, False])
def test_the_reader_of_a_pipe_may_leave(search: bool, small: list[str], tmp_path: Path) -> None:
    what = ["-m", "hpo=random", f"hydra.sweep.dir={tmp_path}"] if search else [f"hydra.run.dir={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, "train.py", *what, *small, "epochs=3"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    with process, process.stdout, process.stderr:
        assert "3 breeds" in process.stdout.readline()
        process.stdout.close()
        complained = process.stderr.read()
    assert process.returncode == 1
    assert "Traceback" not in complained and "BrokenPipe" not in complained


def test_a_place_that_cannot_be_written(small: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = run("train.py", "-m", *small, "lr=0.1,0.2", f"hydra.sweep.dir={tmp_path / 'file'}")
    assert (answer.returncode, "file: file exists" in answer.stderr) == (2, True)
    (tmp_path / "0").mkdir()
    answer = run("train.py", "-m", *small, "lr=0.1,0.2", f"hydra.sweep.dir={tmp_path}")
    assert (answer.returncode, "holds numbered runs" in answer.stderr) == (2, True)


# --- the systems that are replaced


def recipe(name: str) -> tuple[Space, str, str, int]:
    composing.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        hpo = compose("train", [f"experiment={name}"]).hpo
    return parse(hpo.space, [], ["lr", "batch_size", "epochs"]), hpo.strategy, hpo.objective, hpo.trials


def test_the_recipes_ask_for_what_their_notebooks_asked() -> None:
    space, strategy, objective, trials = recipe("resnet50_udacity")
    assert (strategy, objective, trials) == ("bayes", "test/accuracy", 4)
    assert parameter_ranges(space, "Bayesian") == RESNET50
    for name in ("vgg16_stanford", "resnet18_stanford"):
        space, strategy, objective, trials = recipe(name)
        assert (strategy, objective, trials) == ("bayes", "val/loss", 4)
        assert parameter_ranges(space, "Bayesian") == VGG16

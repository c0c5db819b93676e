"""The Python API: what it returns, and that a call leaves nothing behind in the process."""

from __future__ import annotations

import functools
import io
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import ExifTags, Image

import dogbreeds
from dogbreeds import load, search, train
from dogbreeds.api import SearchResult
from dogbreeds.errors import ConfigError, DataError, UserError
from dogbreeds.training.run import RunResult
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def process() -> tuple[object, ...]:
    """What a call may not change."""
    root = logging.getLogger()
    variables = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return Path.cwd(), list(sys.argv), variables, root.level, list(root.handlers), list(warnings.filters)


@dataclass(frozen=True)
class Called:
    """Two runs and a search, made in one process with a Hydra of its own."""

    first: RunResult
    second: RunResult
    found: SearchResult
    before: tuple[object, ...]
    after: tuple[object, ...]


@pytest.fixture(scope="module")
def called(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Called]:
    place = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        small = ("model=squeezenet1_1", "model.weights=random", "trainer=cpu", f"cache.dir={place / 'cache'}")
        fixed: dict[str, object] = {"data.dir": sample, "batch_size": 12}
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            before = process()
            first = train(*small, **fixed, epochs=2)
            second = train(*small, **fixed, epochs=1, **{"hydra.run.dir": "again"})
            found = search("lr=0.1,0.01", *small, **fixed, epochs=1)
            after = process()
            # The caller's own Hydra is still there.
            assert compose("cache").action == "list"
        yield Called(first, second, found, before, after)


def test_importing_the_package_is_light() -> None:
    code = "import sys, dogbreeds; dogbreeds.__version__; sys.exit('torch' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert {"train", "search", "load"} <= set(dogbreeds.__all__)
    with pytest.raises(AttributeError, match="'fit'"):
        dogbreeds.fit  # type: ignore[attr-defined]  # noqa: B018


def test_a_run(called: Called) -> None:
    assert called.first.directory.parts[-3] == "outputs"
    assert (called.first.directory / "metrics.json").is_file()
    assert called.second.directory == called.first.directory.parents[2] / "again"
    assert called.first.metrics["test/accuracy"] >= 0
    assert called.second.metrics["features"]["computed"] == 0


def test_a_search(called: Called) -> None:
    best, board = called.found.best, called.found.leaderboard
    assert best is not None
    assert best.number == board.entries[0].number
    # As `train` takes them.
    assert best.values["lr"] in (0.1, 0.01)
    assert {entry.values["lr"] for entry in board.entries} == {"0.1", "0.01"}
    assert (called.found.directory / "leaderboard.csv").is_file()


def test_a_call_leaves_the_process_as_it_was(called: Called) -> None:
    assert called.before == called.after
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize("place", ["", "model", "model.tar.gz"])
def test_a_model_answers_paths_bytes_and_images(called: Called, sample: Path, place: str) -> None:
    model = load(called.first.directory / place)
    path = next((sample / "test").rglob("*.jpg"))
    by_path, by_text, by_bytes, by_image = model.predict([path, str(path), path.read_bytes(), Image.open(path)])
    assert by_path == by_text == by_bytes == by_image
    assert (by_path.top[0].breed, by_path.top[0].probability) == (by_path.breed, by_path.probability)
    # The lowest score of the six validation photos of each breed is the threshold.
    threshold = called.first.metrics["known"]["threshold"]
    assert by_path.score is not None and by_path.known == (by_path.score >= threshold)
    assert all(one.known for one in model.predict(sorted((sample / "valid").rglob("*.jpg"))))
    assert sum(one.probability for one in by_path.top) == pytest.approx(1)
    assert len(model.classes) == 3


@pytest.mark.parametrize(
    ("mode", "kind"), [("CMYK", "JPEG"), ("F", "TIFF"), ("I;16", "PNG"), ("LA", "PNG"), ("P", "PNG")]
)
def test_an_image_is_answered_as_its_file(called: Called, sample: Path, mode: str, kind: str) -> None:
    photo, file = Image.open(next((sample / "test").rglob("*.jpg"))), io.BytesIO()
    exif = photo.getexif()
    exif[ExifTags.Base.Orientation] = 6
    photo.convert("L" if mode in ("F", "I;16", "LA") else mode).convert(mode).save(file, kind, exif=exif)
    by_file, by_image = load(called.first.directory).predict([file.getvalue(), Image.open(file)])
    assert by_file == by_image


def test_calls_of_threads_wait_for_each_other(called: Called, sample: Path) -> None:
    settings = {"data.dir": sample, "cache.dir": called.first.directory.parents[2] / "cache", "epochs": 1}
    one = functools.partial(train, "model=squeezenet1_1", "model.weights=random", "trainer=cpu", **settings)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda number: one(seed=0), range(2))
    assert first.directory != second.directory and first.metrics["val/loss"] == second.metrics["val/loss"]


def test_the_best_model_of_a_search(called: Called) -> None:
    assert len(load(called.found.directory).classes) == 3


def test_what_cannot_be_used(called: Called, sample: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no photo, no archive")
    with pytest.raises(DataError, match="cannot be read"):
        load(called.first.directory).predict([notes])
    with pytest.raises(DataError, match=r"predict\(\[photo\]\)"):
        load(called.first.directory).predict(str(notes))
    with pytest.raises(DataError, match="one is of the type int"):
        load(called.first.directory).predict([3])  # type: ignore[list-item]
    with pytest.raises(DataError, match="a PIL image of 0 x 5, cannot write empty image"):
        load(called.first.directory).predict([Image.new("I", (0, 5))])
    with pytest.raises(UserError, match=r"notes\.txt is damaged or cannot be read"):
        load(notes)
    with pytest.raises(ConfigError, match=r"^lr=fast: must be a number\.$"):
        train(lr="fast")
    with pytest.raises(ConfigError, match="epochs=0: must be at least 1"):
        train(epochs=0, **{"data.dir": sample})
    with pytest.raises(ConfigError, match="Unknown setting 'learning_rate'"):
        train(learning_rate=0.1)
    with pytest.raises(ConfigError, match=r"search\(\) does what -m does"):
        train("-m", "lr=0.1,0.01")
    with pytest.raises(ConfigError, match="type 'lr="):
        train({"lr": 0.1})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="lr="):
        train(lr=object())

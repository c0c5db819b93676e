from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dogbreeds.package.examples import DIRECTORY, load_examples
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve import batch
from dogbreeds.serve.batch import load, rows
from dogbreeds.training.run import train
from tests.conftest import ROOT, Compose

pytestmark = pytest.mark.slow


@pytest.fixture
def own_cache(cache: Path) -> Path:
    return cache


@pytest.fixture
def package(config: Compose) -> Path:
    return train(config("epochs=1", "features.engine=openvino")).directory / "model"


def test_few_photos_are_under_way_however_many_there_are(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    original = batch._content

    def counted(path: Path) -> bytes | OSError:
        read.append(path)
        return original(path)

    monkeypatch.setattr(batch, "_content", counted)
    photo = package / DIRECTORY / load_examples(package)[0].file
    before = threading.enumerate()
    answers = rows(load(package, tmp_path / "cache"), [photo] * 2000)
    first, _ = next(answers)
    assert first["path"] == str(photo)
    assert 0 < len(read) < 1000
    # Who has seen enough leaves nothing running.
    answers.close()
    assert len(read) < 1000
    assert not [thread for thread in threading.enumerate() if thread not in before and "Executor" in thread.name]


def test_batches_give_the_predictions_of_single_photos(package: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(package)
    paths = [package / DIRECTORY / example.file for example in load_examples(package)]
    for path, (row, readable) in zip(paths, rows(load(package, tmp_path / "cache"), paths), strict=True):
        assert readable
        best = predictor.predict([path.read_bytes()])[0].top[0]
        assert (row["breed"], row["index"]) == (best.breed, best.index)
        assert row["probability"] == pytest.approx(best.probability, abs=1e-3)


def said(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.ci
def test_the_commands_write_what_they_are_asked_for(package: Path, tmp_path: Path) -> None:
    examples = package / DIRECTORY
    (examples / "broken.png").write_bytes(b"no photo")
    asked = said("scripts/predict.py", f"package={package}", f"images={examples}", f"out={tmp_path / 'answers.csv'}")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "Photos without an answer: 1." in asked.stderr
    with (tmp_path / "answers.csv").open(encoding="utf-8") as file:
        answers = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert answers["broken.png"]["error"] == "not an image"
    best = Predictor.load(package).predict([(examples / "1.jpg").read_bytes()])[0].top[0]
    assert answers["1.jpg"]["breed"] == best.breed

    exported = said("scripts/export.py", f"package={package}", "format=pt2", f"out={tmp_path / 'dogs.pt2'}")
    assert exported.returncode == 0, exported.stderr
    assert "agrees with the package" in exported.stdout
    assert 'torch.export.load("dogs.pt2").module()' in exported.stdout

    (examples / "examples.json").write_text(json.dumps([]))
    without = said("scripts/export.py", f"package={package}", "format=pt2", f"out={tmp_path / 'dogs.pt2'}")
    assert without.returncode == 2
    assert "add images=<some photos>" in without.stderr

"""Submissions: what a competition checks, and what is refused."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dogbreeds.command_schemas import PredictCommandConfig
from dogbreeds.errors import ConfigError, DataError
from dogbreeds.package.package import save_package
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve import submission
from tests.package.test_predictor import SEVEN, described, network, photo

IDS = ["ab", "c.d", "ef"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "model"
    save_package(directory, described(SEVEN), network(described(SEVEN)))
    return directory


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """A table of labels, and a folder of photos without labels."""
    root = tmp_path / "kaggle"
    (root / "test").mkdir(parents=True)
    for number, name in enumerate(IDS):
        (root / "test" / f"{name}.png").write_bytes(photo(number))
    (root / "labels.csv").write_text("id,breed\n" + "".join(f"{n},{name}\n" for n, name in enumerate(SEVEN * 2)))
    return root


def checked(file: Path, labels: Path, test: Path) -> list[dict[str, str]]:
    """Returns the rows of a submission that a competition would accept."""
    with labels.open(encoding="utf-8") as listed:
        breeds = sorted({row["breed"] for row in csv.DictReader(listed)})
    with file.open(encoding="utf-8", newline="") as written:
        table = csv.DictReader(written)
        rows = list(table)
    assert table.fieldnames == ["id", *breeds]
    assert [row["id"] for row in rows] == sorted(path.stem for path in test.iterdir())
    for row in rows:
        probabilities = [float(row[breed]) for breed in breeds]
        assert min(probabilities) >= 0 and sum(probabilities) == pytest.approx(1, abs=1e-5)
    return rows


def write(package: Path | None, kaggle: Path, out: str = "submission.csv", **others: Any) -> str:
    given = dict.fromkeys(("endpoint", "url", "images", "at_once", "patience_seconds", "sagemaker", "explain"))
    cache = type("", (), {"dir": str(kaggle / "cache")})
    place, images = kaggle / out, str(kaggle / "test")
    named = None if package is None else str(package)
    settings = {**given, "package": named, "out": str(place), "format": "kaggle", "cache": cache, **others}
    return submission.write(PredictCommandConfig(**settings), images, place)


def test_a_submission_has_every_class_of_every_photo(package: Path, kaggle: Path) -> None:
    assert write(package, kaggle).endswith("submission.csv has 3 photos and 7 classes.")
    rows = checked(kaggle / "submission.csv", kaggle / "labels.csv", kaggle / "test")
    for row, best in zip(rows, Predictor.load(package).predict([photo(number) for number in range(3)]), strict=True):
        for one in best.top:
            assert float(row[SEVEN[one.index]]) == pytest.approx(one.probability, rel=1e-4)


def test_a_submission_is_whole(package: Path, kaggle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (kaggle / "test" / "broken.png").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"needs all photos, and 1 cannot be read.*\n.*broken.png: not an image"):
        write(package, kaggle)
    assert not (kaggle / "submission.csv").exists()
    assert (kaggle / "submission.partial.csv").read_text().count("\n") == 4
    assert "submission.partial.csv has the 3 rows so far." in capsys.readouterr().err


def test_classes_that_are_called_as_columns_are(tmp_path: Path, kaggle: Path) -> None:
    for number, name in enumerate(("known", "id")):
        classes = ("top", name, *SEVEN[2:])
        save_package(tmp_path / str(number), replace(described(SEVEN), classes=classes), network(described(SEVEN)))
    write(tmp_path / "0", kaggle)
    with (kaggle / "submission.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert sum(float(row[name]) for name in ("top", "known", *SEVEN[2:])) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ConfigError, match="a class is called id"):
        write(tmp_path / "1", kaggle)


def test_what_is_no_submission(package: Path, kaggle: Path) -> None:
    with pytest.raises(ConfigError, match="package=<run> alone: servers answer with the best five breeds"):
        write(None, kaggle, url="http://127.0.0.1:8080")
    with pytest.raises(ConfigError, match=r"format=kaggle writes a table, out=submission\.csv"):
        write(package, kaggle, "submission.jsonl")
    shutil.copy(kaggle / "test" / "ab.png", kaggle / "test" / "ab.jpg")
    with pytest.raises(ConfigError, match=r"alike:\n.*ab.jpg and .*ab.png"):
        write(package, kaggle)

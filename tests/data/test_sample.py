from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dogbreeds.command_schemas import MakeSampleCommandConfig
from dogbreeds.constraints import problems
from dogbreeds.data.sample import make_sample
from dogbreeds.data.sample.drawing import BREEDS
from dogbreeds.errors import UserError

SMALL: dict[str, Any] = {"breeds": 3, "train": 3, "valid": 2, "test": 1, "pixels": 64, "seed": 0}


def digests(directory: Path) -> dict[str, str]:
    return {
        str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(directory.rglob("*.jpg"))
    }


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("drawn") / "sample"
    make_sample(directory, **SMALL)
    return directory


def test_layout_and_counts(sample: Path) -> None:
    assert sorted(entry.name for entry in sample.iterdir()) == ["sample.json", "test", "train", "valid"]
    for split in ("train", "valid", "test"):
        folders = sorted((sample / split).iterdir())
        assert [folder.name.partition(".")[0] for folder in folders] == ["001", "002", "003"]
        for folder in folders:
            name = folder.name.partition(".")[2]
            expected = [f"{name}_{number:05d}.jpg" for number in range(1, SMALL[split] + 1)]
            assert sorted(file.name for file in folder.iterdir()) == expected
    with Image.open(sample / "train/001.Amber_pointer/Amber_pointer_00001.jpg") as picture:
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (64, 64))


def test_description_names_the_settings(sample: Path) -> None:
    description = json.loads((sample / "sample.json").read_text(encoding="utf-8"))
    assert {name: description[name] for name in SMALL} == SMALL
    assert description["drawing"] >= 1


def test_same_settings_give_the_same_bytes(sample: Path, tmp_path: Path) -> None:
    make_sample(tmp_path / "again", **SMALL)
    assert digests(tmp_path / "again") == digests(sample)


def test_a_picture_does_not_depend_on_the_counts(sample: Path, tmp_path: Path) -> None:
    make_sample(tmp_path / "other", **SMALL | {"breeds": 2, "train": 4, "valid": 1})
    other, first = digests(tmp_path / "other"), digests(sample)
    shared = other.keys() & first.keys()
    assert len(shared) == 2 * (3 + 1 + 1)
    assert all(other[name] == first[name] for name in shared)


def test_another_seed_draws_other_pictures_and_none_appears_twice(sample: Path, tmp_path: Path) -> None:
    make_sample(tmp_path / "other", **SMALL | {"seed": 1})
    every = [*digests(tmp_path / "other").values(), *digests(sample).values()]
    assert len(set(every)) == len(every) == 2 * 3 * 6


@pytest.mark.parametrize("pixels", [64, 97])
def test_every_breed_can_be_drawn(tmp_path: Path, pixels: int) -> None:
    make_sample(tmp_path / "all", breeds=len(BREEDS), train=1, valid=1, test=1, pixels=pixels, seed=3)
    pictures = digests(tmp_path / "all")
    assert len(set(pictures.values())) == 3 * len(BREEDS)
    with Image.open(tmp_path / "all" / next(iter(pictures))) as picture:
        assert picture.size == (pixels, pixels)


def test_second_call_does_nothing(sample: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [sample, *sample.rglob("*")]}
    calls: list[int] = []
    make_sample(sample, **SMALL, progress=lambda done, total: calls.append(done))
    assert {path: path.stat().st_mtime_ns for path in [sample, *sample.rglob("*")]} == before
    assert calls == []


def test_progress_counts_every_picture(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    settings = SMALL | {"breeds": 2, "train": 1, "valid": 1}
    make_sample(tmp_path / "sample", **settings, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 6) for done in range(1, 7)]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    directory = tmp_path / "sample"
    directory.mkdir()
    make_sample(directory, **SMALL)
    assert len(digests(directory)) == 18
    assert [entry.name for entry in tmp_path.iterdir()] == ["sample"]


def test_foreign_folder_and_file_are_refused(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "mine.txt").write_text("keep")
    for directory in (photos, photos / "mine.txt"):
        with pytest.raises(UserError, match="something other"):
            make_sample(directory, **SMALL)
    assert [entry.name for entry in photos.iterdir()] == ["mine.txt"]
    assert (photos / "mine.txt").read_text() == "keep"


def test_other_settings_and_lost_pictures_are_noticed(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="other than the sample asked for"):
        make_sample(sample, **SMALL | {"seed": 5})
    directory = tmp_path / "sample"
    shutil.copytree(sample, directory)
    next((directory / "valid").rglob("*.jpg")).unlink()
    before = digests(directory)
    with pytest.raises(UserError, match=r"other than the sample asked for.*dir=FOLDER"):
        make_sample(directory, **SMALL)
    assert digests(directory) == before


def test_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Image.Image.save
    saved: list[Any] = []

    def failing(self: Image.Image, file: Any, **options: Any) -> None:
        if len(saved) == 4:
            raise OSError("No space left on device")
        saved.append(file)
        save(self, file, **options)

    monkeypatch.setattr(Image.Image, "save", failing)
    with pytest.raises(OSError, match="no space left"):
        make_sample(tmp_path / "sample", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changed", [{"breeds": 1}, {"breeds": len(BREEDS) + 1}, {"train": 0}, {"valid": -1}, {"test": 0}, {"pixels": 63}]
)
def test_numbers_that_cannot_be_drawn_are_refused(changed: dict[str, Any]) -> None:
    fine = MakeSampleCommandConfig(dir="sample", **SMALL | {"breeds": len(BREEDS)})
    assert problems(fine) == []
    ((name, value),) = changed.items()
    (problem,) = problems(replace(fine, **changed))
    assert problem.startswith(f"{name}={value}: must be")

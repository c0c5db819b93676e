from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from dogbreeds.data.folders import BreedFolders
from dogbreeds.data.names import shown_names
from dogbreeds.data.splits import Photo
from dogbreeds.errors import PackageError
from dogbreeds.package.examples import DIRECTORY, LISTING, Example, choose, load_examples, save_examples
from dogbreeds.package.package import read_description
from dogbreeds.serve.site import card
from dogbreeds.training.run import train
from tests.conftest import Compose

CLASSES = tuple(f"{number:03}.Breed_{number}" for number in range(10))


@pytest.fixture
def own_cache(cache: Path) -> Path:
    return cache


def photo(label: int, number: int) -> Photo:
    path = f"{label}/{number}.jpg"
    return Photo(Path(path), label, f"{(label * 7 + number * 31) % 97:02}{label}{number}", path)


def folders(*test: Photo, train: tuple[Photo, ...] = ()) -> BreedFolders:
    return BreedFolders(Path(), CLASSES, {"train": train, "valid": (), "test": test}, (), (), (), drawn=False)


ALL = [photo(label, number) for label in range(10) for number in range(3)]


def test_examples_are_spread_over_the_classes() -> None:
    assert [one.label for one in choose(folders(*ALL), 5)] == [0, 2, 4, 6, 8]
    assert [one.label for one in choose(folders(*ALL), 10)] == list(range(10))
    assert choose(folders(*reversed(ALL)), 5) == choose(folders(*ALL), 5)


def test_classes_come_again_only_when_all_have_come() -> None:
    two = [one for one in ALL if one.label in (3, 7)]
    chosen = choose(folders(*two), 5)
    assert [one.label for one in chosen] == [3, 3, 3, 7, 7]
    assert len({one.digest for one in chosen}) == 5
    assert len(choose(folders(*two), 100)) == 6
    assert choose(folders(), 3) == []


def test_photos_that_were_learned_from_are_no_examples() -> None:
    chosen = choose(folders(*ALL, train=tuple(one for one in ALL if one.label != 4)), 5)
    assert {one.label for one in chosen} == {4}


@pytest.fixture(scope="module")
def shown() -> bytes:
    """A tall photo that tells where it was taken, lying on its side."""
    image = Image.radial_gradient("L").resize((900, 1200)).convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "A camera"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif, comment=b"of a person")
    return buffer.getvalue()


@pytest.fixture
def run(config: Compose) -> Path:
    return train(config("model.examples=4", "epochs=1")).directory


@pytest.mark.slow
def test_a_run_packages_some_of_its_test_photos(run: Path) -> None:
    examples = load_examples(run / "model")
    assert [one.file for one in examples] == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert {one.label for one in examples} == set(read_description(run / "model").classes)
    assert all(shown_names([one.label]) == (one.breed,) for one in examples)


@pytest.mark.slow
def test_no_examples_where_none_are_wanted(config: Compose) -> None:
    package = train(config("model.examples=0", "epochs=1")).directory / "model"
    assert not (package / DIRECTORY).exists()
    assert load_examples(package) == []


@pytest.mark.slow
def test_examples_are_small_upright_and_say_nothing_but_pixels(run: Path, shown: bytes, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("tall.jpg", "gone.jpg", "broken.jpg")]
    paths[0].write_bytes(shown)
    paths[2].write_bytes(b"no photo")
    save_examples(run / "model", [Photo(path, 1, path.name, path.name) for path in paths], CLASSES)
    (example,) = load_examples(run / "model")
    assert (example.label, example.breed) == ("001.Breed_1", "Breed 1")
    assert {path.name for path in (run / "model" / DIRECTORY).iterdir()} == {LISTING, "1.jpg"}
    content = (run / "model" / DIRECTORY / "1.jpg").read_bytes()
    image = Image.open(io.BytesIO(content))
    assert image.size == (512, 384)
    assert not image.getexif()
    assert b"camera" not in content
    assert b"person" not in content


@pytest.mark.parametrize("listed", ["{", "[{}]", '[{"file": "5.jpg", "label": "", "breed": ""}]'])
def test_damaged_lists(listed: str, tmp_path: Path) -> None:
    (tmp_path / DIRECTORY).mkdir()
    (tmp_path / DIRECTORY / LISTING).write_text(listed)
    with pytest.raises(PackageError, match=r"examples\.json"):
        load_examples(tmp_path)


def test_lists_of_older_packages(tmp_path: Path) -> None:
    """They also held the answer of the packaged model."""
    (tmp_path / DIRECTORY).mkdir()
    (tmp_path / DIRECTORY / "1.jpg").touch()
    one = {"file": "1.jpg", "label": "001.Pug", "breed": "Pug", "answer": {"prediction": 0}}
    (tmp_path / DIRECTORY / LISTING).write_text(json.dumps([one]))
    assert load_examples(tmp_path) == [Example("1.jpg", "001.Pug", "Pug")]


def test_a_list_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / DIRECTORY).mkdir()
    (tmp_path / "secret.jpg").touch()
    one = {"file": "../secret.jpg", "label": "", "breed": ""}
    (tmp_path / DIRECTORY / LISTING).write_text(json.dumps([one]))
    with pytest.raises(PackageError, match="secret"):
        load_examples(tmp_path)


@pytest.mark.slow
def test_the_card_of_a_run(run: Path) -> None:
    description = read_description(run / "model")
    described = json.loads(json.dumps(card(description, "somewhere"), allow_nan=False))
    assert described["engine"] == "somewhere"
    assert card(description)["engine"] == description.engine
    assert described["photos"] == {"train": 36, "valid": 18, "test": 18}
    assert len(described["made"]) == len("2026-11-22")
    assert [one["breed"] for one in described["classes"]] == list(shown_names(description.classes))
    assert described["scores"]["accuracy"] == description.metrics["test/accuracy"]
    accuracies = [one["accuracy"] for one in described["classes"]]
    assert sum(accuracies) / len(accuracies) == pytest.approx(description.metrics["test/accuracy"])
    assert described["versions"] == description.versions


@pytest.mark.slow
def test_the_card_of_a_package_that_knows_little(run: Path) -> None:
    description = read_description(run / "model")
    description.metrics = {"test/per_class_accuracy": [float("nan"), 0.5, 1.0], "test/loss": float("inf")}
    described = json.loads(json.dumps(card(description), allow_nan=False))
    assert [one["accuracy"] for one in described["classes"]] == [None, 0.5, 1.0]
    assert described["scores"]["accuracy"] is described["scores"]["loss"] is None
    description.metrics = {}
    assert [one["accuracy"] for one in card(description)["classes"]] == [None] * 3

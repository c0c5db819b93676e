"""Public sets become breed folders, in one step and out of sound archives alone."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from dogbreeds.data import public
from dogbreeds.data.download import Connection, DownloadError
from dogbreeds.data.public import Summary, choose_set, get_dataset
from dogbreeds.errors import UserError
from tests.data.test_archives import as_tar, as_zip

CONFIG = Path(__file__).parents[2] / "conf" / "get_data.yaml"
TABLE: Any = OmegaConf.to_container(OmegaConf.load(CONFIG).datasets)
DOG_IMAGES = {
    "dogImages/train/001.Affenpinscher/Affenpinscher_00001.jpg": b"one",
    "dogImages/train/002.Afghan_hound/Afghan_hound_00081.jpg": b"two",
    "dogImages/valid/001.Affenpinscher/Affenpinscher_00038.jpg": b"three",
    "dogImages/test/002.Afghan_hound/Afghan_hound_00116.jpg": b"four",
    "dogImages/.DS_Store": b"junk",
    "dogImages/train/001.Affenpinscher/._Affenpinscher_00001.jpg": b"junk",
    "__MACOSX/dogImages/train/001.Affenpinscher/._Affenpinscher_00001.jpg": b"junk",
}


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked for; each download gives the bytes that `served` has."""
    asked: list[str] = []

    def download(url: str, destination: Path, connection: Connection, console: Console) -> None:
        asked.append(url)
        destination.write_bytes(SERVED[0])

    monkeypatch.setattr(public, "download", download)
    SERVED[:] = [as_zip(DOG_IMAGES)]
    return asked


SERVED: list[bytes] = []


def get(name: str, target: Path, keep_archive: bool = False) -> tuple[Summary, str]:
    """What was found, and what was said."""
    console = Console(file=io.StringIO())
    connection = Connection(connect_timeout=60, read_timeout=60, retries=2, backoff=0)
    summary = get_dataset(choose_set(name, TABLE), target, connection, keep_archive, console)
    assert isinstance(console.file, io.StringIO)
    return summary, console.file.getvalue()


def tree(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".dogbreeds.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_dog_breeds(tmp_path: Path, downloads: list[str]) -> None:
    target = tmp_path / "data" / "dog_breeds"
    summary, _ = get("dog_breeds", target)
    assert summary == Summary(breeds=2, images=4)
    assert tree(target) == {
        "test/002.Afghan_hound/Afghan_hound_00116.jpg": b"four",
        "train/001.Affenpinscher/Affenpinscher_00001.jpg": b"one",
        "train/002.Afghan_hound/Afghan_hound_00081.jpg": b"two",
        "valid/001.Affenpinscher/Affenpinscher_00038.jpg": b"three",
    }
    assert [path.name for path in target.parent.iterdir()] == ["dog_breeds"]
    # A complete directory needs no server.
    again, said = get("dog_breeds", target)
    assert again == summary
    assert downloads == [TABLE["dog_breeds"]["url"]]
    assert "nothing to do" in said


def test_stanford_dogs_get_numbers(tmp_path: Path) -> None:
    files = {
        "Images/n02085620-Chihuahua/n02085620_7.jpg": b"c",
        "Images/n02110627-affenpinscher/n02110627_1.jpg": b"a",
        "Images/n02089078-black-and-tan_coonhound/n02089078_3.jpg": b"b",
    }
    (tmp_path / "images.tar").write_bytes(as_tar(files, "w"))
    get("stanford_dogs", tmp_path / "stanford_dogs", keep_archive=True)
    assert tree(tmp_path / "stanford_dogs") == {
        "001.Affenpinscher/n02110627_1.jpg": b"a",
        "002.Black-and-tan_coonhound/n02089078_3.jpg": b"b",
        "003.Chihuahua/n02085620_7.jpg": b"c",
    }
    assert (tmp_path / "images.tar").exists()


def test_imagewoof_synsets_become_breeds(tmp_path: Path) -> None:
    files = {f"imagewoof2-320/train/{synset}/1.JPEG": synset.encode() for synset in TABLE["imagewoof"]["rename"]}
    files["imagewoof2-320/val/n02093754/n02093754_2.JPEG"] = b"held out"
    (tmp_path / "imagewoof2-320.tgz").write_bytes(as_tar(files))
    target = tmp_path / "imagewoof"
    summary, _ = get("imagewoof", target)
    assert summary == Summary(breeds=10, images=11)
    names = sorted(path.name for path in (target / "train").iterdir())
    assert (names[0], names[3], names[9]) == ("001.Australian_terrier", "004.Dingo", "010.Shih-Tzu")
    assert (target / "train/004.Dingo/1.JPEG").read_bytes() == b"n02115641"
    assert (target / "val/003.Border_terrier/n02093754_2.JPEG").read_bytes() == b"held out"


def test_unknown_dataset_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"dataset=cats: .* dog_breeds, stanford_dogs, imagewoof"):
        choose_set("cats", TABLE)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("dog_breeds", b"<html>please log in</html>", "cannot be read"),
        ("dog_breeds", as_zip({"cats/train/001.Tom/a.jpg": b"cat"}), "not the expected archive"),
        ("dog_breeds", as_zip({"dogImages/train/001.A/readme.txt": b"soon"}), "no photos in its folder 'dogImages'"),
        ("stanford_dogs", as_tar({"Images/cats/a.jpg": b"cat"}), "no breed folders in its folder 'Images'"),
    ],
)
def test_a_bad_archive_is_deleted(name: str, content: bytes, reason: str, tmp_path: Path, downloads: list[str]) -> None:
    SERVED[:] = [content]
    with pytest.raises(UserError, match=rf"{reason}.*It was deleted.*datasets\.{name}\.url=URL"):
        get(name, tmp_path / "dogs")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DownloadError("no connection")

    monkeypatch.setattr(public, "download", fail)
    with pytest.raises(UserError, match=r"dogImages\.zip: no connection\.\n.*resume.*dog_breeds\.url=URL") as caught:
        get("dog_breeds", tmp_path / "dogs")
    assert str(tmp_path / "dogImages.zip") in str(caught.value)


def delete_a_photo(target: Path) -> None:
    (target / "train/001.Affenpinscher/Affenpinscher_00001.jpg").unlink()


def forget_the_marker(target: Path) -> None:
    (target / ".dogbreeds.json").unlink()


def become_a_file(target: Path) -> None:
    shutil.rmtree(target)
    target.write_text("mine")


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("dog_breeds", delete_a_photo, "only 3 of its 4 images"),
        ("dog_breeds", forget_the_marker, "something that this command did not make"),
        ("dog_breeds", become_a_file, "something that this command did not make"),
        ("imagewoof", lambda target: None, "the dataset dog_breeds"),
    ],
)
def test_another_target_is_refused_and_left_alone(
    name: str, change: Callable[[Path], None], reason: str, tmp_path: Path, downloads: list[str]
) -> None:
    target = tmp_path / "dogs"
    get("dog_breeds", target)
    change(target)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=rf"already holds {reason}.*dir=FOLDER"):
        get(name, target)
    assert set(tmp_path.rglob("*")) == before
    assert len(downloads) == 1


def test_an_empty_target_is_filled(tmp_path: Path, downloads: list[str]) -> None:
    (tmp_path / "dogs").mkdir()
    assert get("dog_breeds", tmp_path / "dogs")[0].images == 4


def test_interrupted_unpacking_leaves_no_target(
    tmp_path: Path, downloads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked: list[bool] = []

    def interrupted(self: zipfile.ZipFile, path: Path) -> None:
        unpacked.append(Path(self.extract(self.namelist()[0], path)).is_file())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extractall", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get("dog_breeds", tmp_path / "dogs")
    assert unpacked == [True]
    assert [path.name for path in tmp_path.iterdir()] == ["dogImages.zip"]

    # A killed run could not clean up: what it left must not end up in the result.
    stray = tmp_path / ".dogs.unpacking" / "dogImages" / "train" / "009.Half" / "half.jpg"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"ha")
    get("dog_breeds", tmp_path / "dogs")
    assert len(downloads) == 1
    assert len(tree(tmp_path / "dogs")) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["dogs"]


@pytest.mark.parametrize("reason", ["No space left on device", "File exists"])
def test_a_full_disk_or_an_unwritable_place(
    reason: str, tmp_path: Path, downloads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "dogs"
    if reason == "File exists":
        (tmp_path / "file").write_text("in the way")
        target = tmp_path / "file" / "dogs"
    else:

        def full(archive: Path, directory: Path) -> None:
            raise OSError(28, reason, str(directory))

        monkeypatch.setattr(public, "unpack", full)
    with pytest.raises(UserError, match=r"Cannot write .*: .*dir=FOLDER"):
        get("dog_breeds", target)
    assert not target.exists()

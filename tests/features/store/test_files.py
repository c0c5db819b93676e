"""A file is read again exactly when it may have changed."""

from __future__ import annotations

import hashlib
import os
import time
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import PIL
import pytest
from PIL import Image

from dogbreeds.features.store import files
from dogbreeds.features.store.store import FeatureStore
from tests.features.store.filling import OpenStore, digests

Read = list[Path]
SECOND = 1_000_000_000


def photo(red: int, pixels: int = 2) -> bytes:
    """An image, as long as any other with as many pixels."""
    file = BytesIO()
    Image.new("RGB", (pixels, pixels), (red, 0, 0)).save(file, "BMP")
    return file.getvalue()


DOG, CAT, LARGE = photo(1), photo(2), photo(3, pixels=4)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest_of(store: FeatureStore, path: Path) -> str:
    found, reasons = store.files.examine([path], 0)
    assert (set(found), reasons) == ({path}, {})
    return found[path]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """The files that were read, one after the other."""
    original, seen = files._read, []

    def counted(path: Path) -> tuple[str, str]:
        seen.append(path)
        return original(path)

    monkeypatch.setattr(files, "_read", counted)
    return seen


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """All files of the test have been the same for a minute."""
    monkeypatch.setattr(files, "time", SimpleNamespace(time_ns=lambda: time.time_ns() + 60 * SECOND))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "dog.bmp"
    path.write_bytes(DOG)
    return path


def change(path: Path, content: bytes) -> None:
    """Writes a file in place, at a time that the file system tells from the time before."""
    before = path.stat().st_mtime_ns
    while path.stat().st_mtime_ns == before:
        path.write_bytes(content)


@pytest.mark.parametrize("workers", [0, 2, None])
def test_digests_are_those_of_the_content(store: FeatureStore, tmp_path: Path, workers: int | None) -> None:
    paths = [tmp_path / f"{number}.bmp" for number in range(30)]
    for number, path in enumerate(paths):
        path.write_bytes(photo(number))
    found = {path: sha256(photo(number)) for number, path in enumerate(paths)}
    assert store.files.examine([*paths, paths[3]], workers) == (found, {})
    assert store.files.examine([], workers) == ({}, {})


@pytest.mark.usefixtures("later")
def test_unchanged_file_is_not_read_again(open_store: OpenStore, path: Path, read: Read) -> None:
    for _ in range(2):
        with open_store() as store:
            assert digest_of(store, path) == digest_of(store, path) == sha256(DOG)
    assert read == [path]


@pytest.mark.usefixtures("later")
def test_only_new_files_are_read(store: FeatureStore, tmp_path: Path, path: Path, read: Read) -> None:
    digest_of(store, path)
    other = tmp_path / "other.bmp"
    other.write_bytes(CAT)
    assert store.files.examine([other, path], 0) == ({other: sha256(CAT), path: sha256(DOG)}, {})
    assert read == [path, other]


@pytest.mark.usefixtures("later")
def test_relative_path_is_the_same_file(
    store: FeatureStore, path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest_of(store, path)
    monkeypatch.chdir(path.parent)
    assert digest_of(store, Path(path.name)) == sha256(DOG)
    assert read == [path]


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("content", [LARGE, CAT], ids=["of another size", "of the same size"])
def test_changed_file_is_read_again(store: FeatureStore, path: Path, read: Read, content: bytes) -> None:
    digest_of(store, path)
    change(path, content)
    assert digest_of(store, path) == digest_of(store, path) == sha256(content)
    assert read == [path, path]


@pytest.mark.usefixtures("later")
def test_time_that_was_set_back_does_not_hide_a_change(store: FeatureStore, path: Path) -> None:
    before = path.stat()
    digest_of(store, path)
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(CAT)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert digest_of(store, path) == sha256(CAT)


@pytest.mark.usefixtures("later")
def test_another_file_in_the_same_place(store: FeatureStore, tmp_path: Path, path: Path) -> None:
    digest_of(store, path)
    other = tmp_path / "other.bmp"
    other.write_bytes(CAT)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert digest_of(store, path) == sha256(CAT)


@pytest.mark.parametrize(("age", "times"), [(0, 2), (1.9, 2), (2.1, 1)])
def test_file_that_has_just_changed_is_not_trusted(
    store: FeatureStore, path: Path, read: Read, monkeypatch: pytest.MonkeyPatch, age: float, times: int
) -> None:
    status = path.stat()
    now = max(status.st_mtime_ns, status.st_ctime_ns) + int(age * SECOND)
    monkeypatch.setattr(files, "time", SimpleNamespace(time_ns=lambda: now))
    for _ in range(2):
        assert digest_of(store, path) == sha256(DOG)
    assert read == [path] * times


@pytest.mark.usefixtures("later")
def test_file_of_the_future_is_not_trusted(store: FeatureStore, path: Path, read: Read) -> None:
    os.utime(path, ns=(time.time_ns() + 3600 * SECOND,) * 2)
    for _ in range(2):
        assert digest_of(store, path) == sha256(DOG)
    assert read == [path, path]


@pytest.mark.usefixtures("later")
def test_file_that_changes_while_it_is_read_is_not_trusted(
    store: FeatureStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = files._read

    def changed_afterwards(path: Path) -> tuple[str, str]:
        found = original(path)
        change(path, CAT)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(files, "_read", changed_afterwards)
        digest_of(store, path)
    assert digest_of(store, path) == sha256(CAT)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "the file is empty"), (b"<html>", "not an image")], ids=["empty", "a page"]
)
def test_file_that_is_no_image(
    open_store: OpenStore, tmp_path: Path, path: Path, read: Read, workers: int, content: bytes, reason: str
) -> None:
    bad = tmp_path / "bad.bmp"
    bad.write_bytes(content)
    found = ({path: sha256(DOG), bad: sha256(content)}, {bad: reason})
    for _ in range(2):
        with open_store() as store:
            assert store.files.examine([path, bad], workers) == found
            assert store.files.unreadable([sha256(content), sha256(DOG)]) == {sha256(content): reason}
    assert sorted(read) == [bad, path]
    change(bad, CAT)
    assert digest_of(open_store(), bad) == sha256(CAT)


@pytest.mark.usefixtures("later")
def test_image_that_could_not_be_decoded(store: FeatureStore, path: Path, read: Read) -> None:
    digest_of(store, path)
    store.files.remember_unreadable({sha256(DOG): "truncated"})
    assert store.files.examine([path], 0) == ({path: sha256(DOG)}, {path: "truncated"})
    assert read == [path]


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("workers", [0, 2])
def test_file_that_went_away(store: FeatureStore, tmp_path: Path, path: Path, workers: int) -> None:
    gone, other = tmp_path / "gone.bmp", tmp_path / "other.bmp"
    found, reasons = store.files.examine([gone, path, other], workers)
    assert reasons == dict.fromkeys([gone, other], "No such file or directory")
    assert found[path] == sha256(DOG)
    assert len(set(found.values())) == 3
    gone.write_bytes(CAT)
    path.unlink()
    found, reasons = store.files.examine([gone, path], workers)
    assert found[gone] == sha256(CAT)
    assert reasons == {path: "No such file or directory"}


@pytest.mark.usefixtures("later")
def test_directory_in_the_place_of_a_photo(store: FeatureStore, tmp_path: Path) -> None:
    assert store.files.examine([tmp_path], 0)[1] == {tmp_path: "Is a directory"}


@pytest.mark.usefixtures("later")
def test_disk_that_failed_once_is_asked_again(store: FeatureStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fail)
        assert store.files.examine([path], 0)[1] == {path: "Input/output error"}
    assert digest_of(store, path) == sha256(DOG)


@pytest.mark.usefixtures("later")
def test_name_that_is_no_text(store: FeatureStore, tmp_path: Path) -> None:
    path, gone = tmp_path / os.fsdecode(b"caf\xe9.bmp"), tmp_path / os.fsdecode(b"gone \xe9.bmp")
    path.write_bytes(DOG)
    for _ in range(2):
        assert digest_of(store, path) == sha256(DOG)
    assert list(store.files.examine([gone], 0)[1]) == [gone]


def test_unreadable_photos_are_remembered(open_store: OpenStore) -> None:
    first, second, third = digests(3)
    with open_store() as store:
        assert store.files.unreadable([first]) == {}
        store.files.remember_unreadable({first: "truncated", second: "not an image"})
    store = open_store()
    assert store.files.unreadable([third, second, first, second]) == {first: "truncated", second: "not an image"}
    assert store.files.unreadable([third]) == store.files.unreadable([]) == {}


def test_another_pillow_may_read_them(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = digests(2)
    store.files.remember_unreadable(dict.fromkeys(photos, "truncated"))
    with monkeypatch.context() as patched:
        patched.setattr(PIL, "__version__", "99.0")
        assert store.files.unreadable(photos) == {}
        store.files.remember_unreadable({photos[1]: "still truncated"})
        assert store.files.unreadable(photos) == {photos[1]: "still truncated"}
    assert store.files.unreadable(photos) == {photos[0]: "truncated"}


def test_many_files_are_examined_in_turns(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Read, later: None
) -> None:
    monkeypatch.setattr(files, "_AT_ONCE", 2)
    paths = [tmp_path / f"{number}.bmp" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(photo(number) if number != 3 else b"no photo")
    found, reasons = store.files.examine(paths, 0)
    assert found == {path: sha256(path.read_bytes()) for path in paths} and set(reasons) == {paths[3]}
    assert store.files.examine(paths, 0) == (found, reasons)
    assert read == paths

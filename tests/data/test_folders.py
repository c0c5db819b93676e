"""Breed folders: which photos are found, how they are split, and what is refused in which words."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dogbreeds.data.folders import BreedFolders, index
from dogbreeds.data.images import UnreadableImageError, check
from dogbreeds.data.names import readable
from dogbreeds.errors import DataError, UserError

Counts = dict[str, int]
COMPLETE: Counts = {
    f"{split}/{name}": count
    for split, count in (("train", 3), ("valid", 2), ("test", 1))
    for name in ("beagle", "akita")
}


def paint(file: Path, key: str | None = None) -> Path:
    """A photo of one colour; the same key gives the same bytes, no key a colour of the file's own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    key = key or "/".join(file.parts[-3:])
    red, green, blue = hashlib.sha256(os.fsencode(key)).digest()[:3]
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".tif": "TIFF"}.get(
        file.suffix.lower(), file.suffix[1:].upper()
    )
    Image.new("RGB", (32, 32), (red, green, blue)).save(file, kind)
    return file


def populate(root: Path, counts: Counts) -> Path:
    for folder, count in counts.items():
        for number in range(count):
            paint(root / folder / f"{number:03d}.png")
    return root


def examine(paths: Sequence[Path], workers: int | None) -> tuple[dict[Path, str], dict[Path, str]]:
    """What the feature store does, without remembering anything."""
    digests, reasons = {}, {}
    for path in paths:
        try:
            content = path.read_bytes()
            digests[path] = hashlib.sha256(content).hexdigest()
            check(content)
        except OSError as error:
            digests[path], reasons[path] = hashlib.sha256(str(path).encode()).hexdigest(), str(error)
        except UnreadableImageError as error:
            reasons[path] = str(error)
    return digests, reasons


def read(root: Path, **given_settings: Any) -> BreedFolders:
    folders = index(root, examine, **{"split_seed": 0, "workers": 0, **given_settings})
    folders.check("skip")
    return folders


def refusal(root: Path, **given_settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(root, **given_settings)
    assert isinstance(caught.value, UserError)
    return str(caught.value)


def names(folders: BreedFolders, split: str) -> list[str]:
    return [photo.path.relative_to(folders.root).as_posix() for photo in folders.splits[split]]


def per_class(folders: BreedFolders) -> dict[str, list[int]]:
    return {split: folders.class_counts(split) for split in ("train", "valid", "test")}


def digests(folders: BreedFolders, split: str) -> set[str]:
    return {photo.digest for photo in folders.splits[split]}


def test_folders_with_splits(tmp_path: Path) -> None:
    folders = read(populate(tmp_path, COMPLETE))
    assert folders.counts() == {"train": 6, "valid": 4, "test": 2}
    assert names(folders, "valid") == [
        "valid/akita/000.png",
        "valid/akita/001.png",
        "valid/beagle/000.png",
        "valid/beagle/001.png",
    ]
    assert [photo.label for photo in folders.splits["valid"]] == [0, 0, 1, 1]
    assert folders.leaks == ()
    assert folders.unreadable == ()
    photo = folders.splits["test"][0]
    assert photo.digest == hashlib.sha256(photo.path.read_bytes()).hexdigest()


def test_classes_are_sorted_whatever_their_splits(tmp_path: Path) -> None:
    folders = read(populate(tmp_path, {"zebra": 3, "010.c": 3, "002.b": 3, "Akita": 3}))
    assert folders.classes == ("002.b", "010.c", "Akita", "zebra")
    for photos in folders.splits.values():
        assert all(folders.classes[photo.label] == photo.path.parent.name for photo in photos)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Train", "Validation", "TEST"), ("train", "DEV", "test")])
def test_other_names_of_the_splits(tmp_path: Path, names: tuple[str, str, str]) -> None:
    spelled = dict(zip(("train", "valid", "test"), names, strict=True))
    populate(tmp_path, {f"{spelled[folder.split('/')[0]]}/{folder.split('/')[1]}": n for folder, n in COMPLETE.items()})
    folders = read(tmp_path)
    assert folders.counts() == {"train": 6, "valid": 4, "test": 2}
    assert {photo.path.parts[-3] for photo in folders.splits["valid"]} == {names[1]}


@pytest.mark.parametrize(("one", "other"), [("val", "valid"), ("dev", "validation"), ("TEST", "test")])
def test_two_folders_for_one_split_are_refused(tmp_path: Path, one: str, other: str) -> None:
    message = refusal(populate(tmp_path, {f"{split}/{name}": 3 for split in ("train", one, other) for name in "ab"}))
    assert f"{one}/ and {other}/" in message
    assert "\n" not in message


def test_split_names_are_classes_where_there_is_no_train(tmp_path: Path) -> None:
    assert read(populate(tmp_path, {"dev": 3, "val": 3, "valid": 3})).classes == ("dev", "val", "valid")


def test_missing_valid_is_taken_from_train(tmp_path: Path) -> None:
    counts = {"train/a": 20, "train/b": 30, "test/a": 2, "test/b": 2}
    folders = read(populate(tmp_path, counts))
    assert per_class(folders) == {"train": [18, 27], "valid": [2, 3], "test": [2, 2]}
    assert all(name.startswith("train/") for name in names(folders, "valid"))
    assert all(name.startswith("test/") for name in names(folders, "test"))
    assert not digests(folders, "train") & digests(folders, "valid")


def test_missing_test_is_taken_from_valid(tmp_path: Path) -> None:
    counts = {"train/a": 3, "train/b": 3, "valid/a": 8, "valid/b": 4}
    folders = read(populate(tmp_path, counts))
    assert per_class(folders) == {"train": [3, 3], "valid": [4, 2], "test": [4, 2]}
    assert all(name.startswith("valid/") for name in names(folders, "test"))
    assert not digests(folders, "valid") & digests(folders, "test")


@pytest.mark.parametrize("count", [3, 10, 20])
def test_train_alone_is_split_like_folders_without_splits(tmp_path: Path, count: int) -> None:
    folders = read(populate(tmp_path, {"train/a": count, "train/b": count}))
    held_out = max(1, count // 10)
    assert per_class(folders) == {"train": [count - 2 * held_out] * 2, "valid": [held_out] * 2, "test": [held_out] * 2}


def test_folders_without_splits(tmp_path: Path) -> None:
    folders = read(populate(tmp_path, {"a": 20, "b": 30, "c": 4}))
    assert per_class(folders) == {"train": [16, 24, 2], "valid": [2, 3, 1], "test": [2, 3, 1]}
    every = [name for split in folders.splits for name in names(folders, split)]
    assert len(every) == len(set(every)) == 54
    for split in folders.splits:
        assert names(folders, split) == sorted(names(folders, split))


def test_split_depends_on_the_seed(tmp_path: Path) -> None:
    root = populate(tmp_path, {"a": 20, "b": 20})
    first = read(root, split_seed=1)
    assert first == read(root, split_seed=1)
    assert names(first, "test") != names(read(root, split_seed=2), "test")
    # Not the first or last photos of each class: folders are often sorted by scene.
    assert {name[2:] for name in names(first, "test")} != {"000.png", "001.png"}


def test_split_does_not_depend_on_the_order_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = populate(tmp_path, {"a": 12, "b": 12})
    first, listed = read(root), Path.iterdir

    def backwards(directory: Path) -> Iterator[Path]:
        return iter(sorted(listed(directory), reverse=True))

    monkeypatch.setattr(Path, "iterdir", backwards)
    assert read(root) == first


def test_split_does_not_depend_on_names(tmp_path: Path) -> None:
    first = read(populate(tmp_path / "first", {"a": 20, "b": 20}))
    for photos in first.splits.values():
        for photo in photos:
            renamed = tmp_path / "second" / photo.path.parent.name / f"{photo.digest[:8]}.png"
            renamed.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo.path, renamed)
    assert drawn(read(tmp_path / "second")) == drawn(first)


def drawn(folders: BreedFolders) -> dict[tuple[str, str], str]:
    """The split of each photo, by class and digest."""
    return {
        (photo.path.parent.name, photo.digest): split for split, photos in folders.splits.items() for photo in photos
    }


@pytest.mark.parametrize("layout", ["", "train/"])
@pytest.mark.parametrize("name", ["aardvark", "zebra"])
def test_a_new_class_moves_no_photo(tmp_path: Path, layout: str, name: str) -> None:
    root = populate(tmp_path, {f"{layout}beagle": 30, f"{layout}collie": 20})
    before = drawn(read(root))
    after = drawn(read(populate(root, {f"{layout}{name}": 10})))
    assert {photo: split for photo, split in after.items() if photo[0] != name} == before


@pytest.mark.parametrize("layout", ["", "train/"])
@pytest.mark.parametrize("count", [29, 34, 44])
def test_a_new_photo_moves_at_most_the_borders(tmp_path: Path, layout: str, count: int) -> None:
    """At two borders a photo moves to the next split, at one of them two when the splits grow."""
    root = populate(tmp_path, {f"{layout}beagle": count, f"{layout}collie": 20})
    before = drawn(read(root))
    for number in range(10):
        new = paint(root / f"{layout}beagle" / "0.png", key=f"new {number}")
        after = drawn(read(root))
        moved = [photo for photo, split in before.items() if after[photo] != split]
        assert len(moved) <= 3
        assert all({before[photo], after[photo]} != {"train", "test"} for photo in moved)
        assert all(photo[0] == "beagle" for photo in moved)
        new.unlink()


@pytest.mark.parametrize("seed", range(4))
def test_identical_photos_stay_together(tmp_path: Path, seed: int) -> None:
    root = populate(tmp_path, {"a": 8, "b": 8})
    for number in range(6):
        paint(root / "a" / f"copy{number}.png", key="the same")
        paint(root / "b" / f"pair{number}.png", key=f"pair {number // 2}")
    folders = read(root, split_seed=seed)
    assert sum(folders.counts().values()) == 28
    train, valid, test = (digests(folders, split) for split in ("train", "valid", "test"))
    assert not (train & valid or train & test or valid & test)
    assert folders.leaks == ()


def test_what_is_left_out_and_why(tmp_path: Path) -> None:
    root = populate(tmp_path, COMPLETE)
    used = [root / "train/akita" / name for name in ("a.JPG", "b.Jpeg", "c.WebP", "d.BMP", "e.PNG", "f.GIF", "g.tif")]
    used += [paint(root / "train/akita/more/again/h.jfif"), paint(root / "valid/akita/folder.jpg/i.png")]
    for file in used:
        paint(file)
    used.append((root / "train/akita/a.JPG").rename(root / "train/akita/a photo"))
    used.remove(root / "train/akita/a.JPG")
    for ignored in (".hidden.png", "._a.jpg", "notes.txt", "Thumbs.db"):
        (root / "train/akita" / ignored).write_text("not a photo")
    for stray in ("train/.cache/j.png", "train/akita/@eaDir/k.png", "train/akita/thumbs/l.png", "__MACOSX/m.png"):
        paint(root / stray)
    for stray in ("train/n.png", "o.png", "eval/akita/p.png"):
        paint(root / stray)
    (root / "readme.txt").write_text("not a photo")
    (root / "train/empty").mkdir()
    (root / "train/akita/link.jpg").symlink_to("nowhere")
    (root / "train/akita/again").mkdir(exist_ok=True)
    (root / "train/akita/again/loop").symlink_to(root / "train", target_is_directory=True)
    os.mkfifo(root / "train/akita/pipe.jpg")
    folders = read(root)
    assert folders.classes == ("akita", "beagle")
    assert {photo.path for photo in folders.photos()} >= set(used)
    assert folders.counts() == {"train": 14, "valid": 5, "test": 2}
    reasons = {path.relative_to(root).as_posix(): reason for path, reason in folders.left_out}
    hidden, outside = "in a hidden, system or thumbnail folder", "in no class folder"
    assert reasons == {
        "train/akita/.hidden.png": "hidden",
        "train/akita/._a.jpg": "hidden",
        "train/akita/notes.txt": "not a photo",
        "train/akita/Thumbs.db": "not a photo",
        "train/.cache/j.png": hidden,
        "train/akita/@eaDir/k.png": hidden,
        "train/akita/thumbs/l.png": hidden,
        "__MACOSX/m.png": hidden,
        "train/n.png": outside,
        "o.png": outside,
        "readme.txt": "no photo, beside the class folders",
        "eval/akita/p.png": "in eval/, beside train, valid, test",
        "train/empty": "an empty folder",
        "train/akita/link.jpg": "a link that leads nowhere",
        "train/akita/again/loop": "a link to a folder that holds it",
        "train/akita/pipe.jpg": "not a regular file",
    }
    assert "    1 in eval/, beside train, valid, test: eval/akita/p.png" in folders.describe()


_NAMES = ("1.jpg", "2.JFIF", "photo", ".hidden.png", "Thumbs.db", "notes.txt", "cut.png", "\udcfc.jpg", "a=b,[c]'.jpg")
_PLACES = ("", "train", "train/a", "train/b", "train/a/more", "train/b/@eaDir", "Val/a", "Val/b", "eval/a", "a", "b")


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(st.sampled_from(_PLACES), st.sampled_from(_NAMES)), max_size=25))
def test_every_file_is_used_or_left_out_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, files: set[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    # Enough of each class, so that most trees are accepted.
    populate(root, {"train/a": 3, "train/b": 3, "Val/a": 3, "Val/b": 3})
    for place, name in files:
        path = root / place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".db", ".txt")):
            path.write_text("not a photo")
        else:
            path.write_bytes(paint(root / "x.png", f"{place}/{name}").read_bytes()[: 30 if "cut" in name else None])
            (root / "x.png").unlink()
    try:
        folders = read(root)
    except DataError as error:
        assert "Every class needs a photo in every split" in str(error)
        return
    left = (*folders.left_out, *folders.unreadable)
    used = [photo.path for photo in folders.photos()]
    every = sorted(path for path in root.rglob("*") if path.is_file())
    assert sorted([*used, *(path for path, _ in left)]) == every
    assert all(reason for _, reason in left)
    folders.save(root / "index.csv")
    with (root / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["path"] for row in rows) == sorted(readable(path.relative_to(root)) for path in every)
    used_rows = [row for row in rows if row["state"] == "used"]
    assert len(used_rows) == len(used)
    assert all(row["split"] and row["class"] and not row["reason"] for row in used_rows)
    assert sorted(row["reason"] for row in rows if row["state"] != "used") == sorted(reason for _, reason in left)


def test_leaks_name_both_files(tmp_path: Path) -> None:
    root = populate(tmp_path, COMPLETE)
    first = paint(root / "train/akita/one.png", key="twin")
    second = paint(root / "test/beagle/two.png", key="twin")
    folders = read(root)
    assert folders.leaks == ((first, second),)
    report = folders.describe()
    assert "1 photo appears in more than one split; scores are inflated" in report
    assert "train/akita/one.png = test/beagle/two.png" in report


def test_copies_within_a_split_are_no_leak(tmp_path: Path) -> None:
    root = populate(tmp_path, COMPLETE)
    paint(root / "train/akita/one.png", key="twin")
    paint(root / "train/akita/two.png", key="twin")
    folders = read(root)
    assert folders.leaks == ()
    assert "more than one split" not in folders.describe()


def test_description(tmp_path: Path) -> None:
    lines = read(populate(tmp_path, {**COMPLETE, "train/akita": 5})).describe().splitlines()
    assert lines[0] == f"2 breeds in {tmp_path}"
    assert [line.split() for line in lines[1:]] == [
        ["train", "8", "photos,", "3", "to", "5", "per", "breed"],
        ["valid", "4", "photos,", "2", "to", "2", "per", "breed"],
        ["test", "2", "photos,", "1", "to", "1", "per", "breed"],
    ]


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, dict[Path, str]]:
    """Folders with three unreadable files, each with a part of the reason."""
    root = populate(tmp_path / "photos", COMPLETE)
    cut = paint(root / "train/beagle/cut.png")
    cut.write_bytes(cut.read_bytes()[:20])
    empty, text = root / "train/akita/empty.jpg", root / "valid/akita/text.jpg"
    empty.write_bytes(b"")
    text.write_text("<html>not found</html>")
    return root, {cut: "", empty: "empty", text: "not an image"}


def test_bad_images_are_left_out_or_refused(damaged: tuple[Path, dict[Path, str]]) -> None:
    root, reasons = damaged
    folders = read(root)
    assert folders.counts() == {"train": 6, "valid": 4, "test": 2}
    assert {path for path, _ in folders.unreadable} == set(reasons)
    report = folders.describe()
    assert "left out, since they cannot be read: 3 photos" in report
    assert all(f"{file.relative_to(root)}: " in report for file in reasons)
    with pytest.raises(DataError) as caught:
        folders.check("stop")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"3 of 15 photos in data.dir={root}")
    for file, reason in reasons.items():
        assert any(f"{file.relative_to(root)}: " in line and reason in line.lower() for line in lines)
    assert "data.on_bad_image=skip" in lines[-1]


def test_long_list_of_bad_images_is_cut(tmp_path: Path) -> None:
    root = populate(tmp_path, COMPLETE)
    for number in range(12):
        (root / "train/akita" / f"bad{number:02d}.jpg").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        read(root).check("stop")
    message = str(caught.value)
    assert "12 of 24 photos" in message
    assert message.count(": the file is empty") == 10
    assert "and 2 more" in message


def test_class_that_is_all_unreadable_is_missing(tmp_path: Path) -> None:
    root = populate(tmp_path, COMPLETE)
    (root / "test/akita/000.png").write_bytes(b"")
    message = refusal(root)
    assert "test: akita" in message
    assert "beagle" not in message
    assert "1 the file is empty: test/akita/000.png" in message


def test_each_file_is_examined_once_with_the_given_threads(tmp_path: Path) -> None:
    root = populate(tmp_path, COMPLETE)
    asked: list[tuple[list[Path], int | None]] = []

    def recording(paths: Sequence[Path], workers: int | None) -> tuple[dict[Path, str], dict[Path, str]]:
        asked.append((list(paths), workers))
        return examine(paths, workers)

    index(root, recording, split_seed=0, workers=3)
    ((paths, workers),) = asked
    assert sorted(paths) == sorted(root.rglob("*.png"))
    assert workers == 3


# --- photos that turn out to be unreadable when they are decoded


def found_later(folders: BreedFolders, *names: str) -> dict[str, str]:
    return {
        photo.digest: "image file is truncated"
        for photos in folders.splits.values()
        for photo in photos
        if photo.path.relative_to(folders.root).as_posix() in names
    }


def test_unreadable_photos_that_are_found_later_are_left_out(tmp_path: Path) -> None:
    root = populate(tmp_path, COMPLETE)
    (root / "train/akita/early.jpg").write_text("not a photo")
    before = read(root)
    after = before.without(found_later(before, "valid/beagle/001.png"))
    assert after.counts() == {"train": 6, "valid": 3, "test": 2}
    assert after.splits["train"] == before.splits["train"]
    assert names(after, "valid") == ["valid/akita/000.png", "valid/akita/001.png", "valid/beagle/000.png"]
    assert after.classes == before.classes
    assert [path.name for path, _ in after.unreadable] == ["early.jpg", "001.png"]
    assert "left out, since they cannot be read: 2 photos" in after.describe()
    # And again, with what is left.
    last = after.without(found_later(after, "train/akita/002.png"))
    assert last.counts() == {"train": 5, "valid": 3, "test": 2}
    assert len(last.unreadable) == 3


def test_reasons_for_other_photos_change_nothing(tmp_path: Path) -> None:
    folders = read(populate(tmp_path, COMPLETE))
    assert folders.without({"f" * 64: "not here"}) is folders
    assert folders.without({}) is folders


@pytest.mark.parametrize("layout", ["", "train/"])
def test_the_split_of_the_others_does_not_depend_on_when_damage_is_found(tmp_path: Path, layout: str) -> None:
    root = populate(tmp_path, {f"{layout}a": 30, f"{layout}b": 20})
    first = read(root)
    victims = [photo for photos in first.splits.values() for photo in photos[:2]]
    reasons = {photo.digest: "image file is truncated" for photo in victims}
    later = first.without(reasons)
    for split, photos in first.splits.items():
        assert later.splits[split] == tuple(photo for photo in photos if photo not in victims)

    def knowing(paths: Sequence[Path], workers: int | None) -> tuple[dict[Path, str], dict[Path, str]]:
        digests, _ = examine(paths, workers)
        return digests, {path: reasons[digest] for path, digest in digests.items() if digest in reasons}

    known = index(root, knowing, split_seed=0, workers=0)
    assert known == later


def test_all_copies_of_an_unreadable_photo_are_left_out(tmp_path: Path) -> None:
    root = populate(tmp_path, COMPLETE)
    paint(root / "train/akita/one.png", key="twin")
    paint(root / "test/beagle/two.png", key="twin")
    folders = read(root)
    assert len(folders.leaks) == 1
    after = folders.without(found_later(folders, "train/akita/one.png"))
    assert after.counts() == {"train": 6, "valid": 4, "test": 2}
    assert {path.name for path, _ in after.unreadable} == {"one.png", "two.png"}
    assert after.leaks == ()


def test_a_class_without_readable_photos_is_missing(tmp_path: Path) -> None:
    folders = read(populate(tmp_path, COMPLETE))
    with pytest.raises(DataError) as caught:
        folders.without(found_later(folders, "test/akita/000.png")).check("skip")
    assert "test: akita" in str(caught.value)
    assert "beagle" not in str(caught.value)
    assert "Add photos there" in str(caught.value)


def test_a_class_without_readable_photos_in_a_drawn_split_is_missing(tmp_path: Path) -> None:
    folders = read(populate(tmp_path, {"a": 3, "b": 3}))
    with pytest.raises(DataError, match="at least three different photos"):
        folders.without(found_later(folders, *names(folders, "valid")[:1])).check("skip")


# --- a part of the photos


@pytest.mark.parametrize(
    ("count", "train", "valid", "test"),
    [
        (1, [1, 0], [1, 0], [1, 0]),
        (2, [1, 1], [1, 1], [1, 1]),
        (5, [3, 2], [2, 2], [1, 1]),
        (99, [3, 3], [2, 2], [1, 1]),
    ],
)
def test_a_sample_is_spread_over_the_classes(
    tmp_path: Path, count: int, train: list[int], valid: list[int], test: list[int]
) -> None:
    folders = read(populate(tmp_path, COMPLETE))
    part = folders.sample(count)
    assert per_class(part) == {"train": train, "valid": valid, "test": test}
    assert part.classes == folders.classes
    for split in part.splits:
        assert set(part.splits[split]) <= set(folders.splits[split])
        assert names(part, split) == sorted(names(part, split))
    assert part == folders.sample(count)


def test_a_sample_may_lack_classes_and_lose_photos(tmp_path: Path) -> None:
    """The class that the sample lacks is no reason to refuse what is left of the others."""
    folders = read(populate(tmp_path, {**COMPLETE, "train/akita": 30})).sample(1)
    assert per_class(folders)["train"] == [1, 0]
    part = read(tmp_path).sample(3)
    after = part.without(found_later(part, names(part, "train")[0]))
    assert per_class(after)["train"] == [1, 1]


def test_every_photo_has_a_file_with_its_bytes(tmp_path: Path) -> None:
    root = populate(tmp_path, COMPLETE)
    shutil.copy(root / "train/akita/000.png", root / "train/akita/copy.png")
    folders = read(root)
    files = folders.files()
    assert files.keys() == {photo.digest for photos in folders.splits.values() for photo in photos}
    assert len(files) == 12
    for digest, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


# --- what is refused


def test_no_such_directory(tmp_path: Path) -> None:
    message = refusal(tmp_path / "nowhere")
    assert f"{tmp_path / 'nowhere'}: no such directory" in message
    assert "scripts/get_data.py" in message
    assert "scripts/make_sample.py" in message
    file = tmp_path / "file"
    file.write_text("")
    assert "no such directory" in refusal(file)


@pytest.mark.parametrize("folder", ["", "akita", "train", "train/akita", "valid/akita"])
def test_no_photos(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "notes.txt").write_text("no photo")
    message = refusal(tmp_path)
    assert f"data.dir={tmp_path} holds " in message
    assert "train/<class>/*.jpg" in message
    assert "valid" in folder or "notes.txt" in message


def test_a_folder_too_high_or_too_low(tmp_path: Path) -> None:
    populate(tmp_path, {f"set/{name}": count for name, count in COMPLETE.items()})
    assert f"set/ with splits in it: data.dir={tmp_path}/set?" in refusal(tmp_path)
    assert "3 in no class folder: 000.png, 001.png, 002.png" in refusal(tmp_path / "set/train/akita")
    populate(tmp_path / "flat", {"images/a": 3, "images/b": 3})
    assert f"Its folders may be the classes: data.dir={tmp_path}/flat/images." in refusal(tmp_path / "flat")
    assert "holds valid/ and test/, but no train/" in refusal(
        populate(tmp_path / "late", {"valid/a": 1, "valid/b": 1, "test/a": 1})
    )


def test_folders_called_like_splits_may_be_classes(tmp_path: Path) -> None:
    root = populate(tmp_path, {"bus": 3, "train": 3, "car": 3})
    assert read(root).classes == ("bus", "car", "train")
    assert len(read(populate(root, {"train/night": 2})).photos()) == 11


def test_one_class_whose_folders_are_written_with_different_bytes(tmp_path: Path) -> None:
    root = populate(tmp_path, {"train/h\u00fctehund": 3, "train/pug": 3, "test/hu\u0308tehund": 2, "test/pug": 2})
    assert read(root).classes == ("h\u00fctehund", "pug")


def test_one_class(tmp_path: Path) -> None:
    message = refusal(populate(tmp_path, {"train/akita": 3, "valid/akita": 1, "test/akita": 1}))
    assert "one class only (akita)" in message


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_class_without_photos_in_a_split(tmp_path: Path, split: str) -> None:
    root = populate(tmp_path, {f: count for f, count in COMPLETE.items() if f != f"{split}/beagle"})
    message = refusal(root)
    assert f"{split}: beagle" in message
    assert message.count("beagle") == 1
    assert "akita" not in message
    assert "Add photos there" in message


def test_long_list_of_missing_classes_is_cut(tmp_path: Path) -> None:
    counts = {f"{split}/{number:02d}": 1 for split in ("train", "valid") for number in range(12)}
    message = refusal(populate(tmp_path, {**counts, "test/00": 1}))
    assert "test: 01, 02, 03, 04, 05, 06, 07, 08, 09, 10, ...\n" in message


@pytest.mark.parametrize("layout", ["", "train/"])
@pytest.mark.parametrize("count", [1, 2])
def test_class_with_too_few_photos_for_three_splits(tmp_path: Path, layout: str, count: int) -> None:
    message = refusal(populate(tmp_path, {f"{layout}akita": 10, f"{layout}rare": count}))
    assert "train: rare" in message
    assert "akita" not in message
    assert "at least three different photos" in message


def test_copies_do_not_count_as_different_photos(tmp_path: Path) -> None:
    root = populate(tmp_path, {"akita": 10})
    for number in range(10):
        paint(root / "rare" / f"{number}.png", key="the same")
    assert "at least three different photos" in refusal(root)


def test_three_photos_are_enough(tmp_path: Path) -> None:
    folders = read(populate(tmp_path, {"akita": 3, "beagle": 3}))
    assert per_class(folders) == {"train": [1, 1], "valid": [1, 1], "test": [1, 1]}


def test_too_few_photos_to_take_a_split_from(tmp_path: Path) -> None:
    counts = {"train/a": 3, "train/b": 3, "valid/a": 2, "valid/b": 1}
    message = refusal(populate(tmp_path, counts))
    assert "valid: b" in message
    assert "at least three different photos" in message


@pytest.mark.parametrize(
    "content",
    [
        "valid/akita/000.png\n\n./train/beagle/002.png\n",
        "path,label,score\nvalid/akita/000.png,akita,0.1\ntrain/beagle/002.png,beagle,0.2\n"
        "train/beagle/002.png,beagle,3.7\n",
        "\ufeffpath\nvalid/akita/000.png\ntrain/beagle/002.png\n",
    ],
    ids=["a list", "a table", "a table of a spreadsheet"],
)
def test_photos_that_a_file_names_are_left_out(tmp_path: Path, content: str) -> None:
    file = tmp_path / "wrong.csv"
    file.write_text(content, encoding="utf-8")
    folders = read(populate(tmp_path / "photos", COMPLETE), exclude=file)
    assert folders.excluded == 2
    assert folders.counts() == {"train": 5, "valid": 3, "test": 2}
    assert "valid/akita/000.png" not in names(folders, "valid")
    assert "    2 named by data.exclude: valid/akita/000.png, train/beagle/002.png" in folders.describe()


def test_leaving_photos_out_moves_no_other_to_another_split(tmp_path: Path) -> None:
    populate(tmp_path / "photos", {"a": 30, "b": 30})
    whole = read(tmp_path / "photos")
    file = tmp_path / "wrong.txt"
    file.write_text(f"{names(whole, 'train')[3]}\n{names(whole, 'train')[4]}\n")
    rest = read(tmp_path / "photos", exclude=file)
    assert names(rest, "test") == names(whole, "test")
    assert set(names(rest, "train")) < set(names(whole, "train"))


def test_an_excluded_photo_may_be_unreadable_or_a_leak(tmp_path: Path) -> None:
    root = populate(tmp_path / "photos", COMPLETE)
    (root / "train" / "akita" / "000.png").write_bytes(b"broken")
    shutil.copy(root / "test" / "akita" / "000.png", root / "train" / "akita" / "copy.png")
    assert len(read(root).unreadable) == 1
    (tmp_path / "wrong.txt").write_text("train/akita/000.png\ntrain/akita/copy.png\n")
    folders = read(root, exclude=tmp_path / "wrong.txt")
    assert (folders.unreadable, folders.leaks) == ((), ())


def test_what_cannot_be_left_out(tmp_path: Path) -> None:
    root, file = populate(tmp_path / "photos", COMPLETE), tmp_path / "wrong.txt"
    file.write_text("train/akita/000.png\ntrain/poodle/1.jpg\n")
    message = refusal(root, exclude=file)
    assert f"data.exclude={file} names 1 photo that data.dir={root} does not hold" in message
    assert "train/poodle/1.jpg" in message and "akita" not in message
    file.write_text("test/akita/000.png\n")
    message = refusal(root, exclude=file)
    assert "test: akita" in message and f"Remove lines from data.exclude={file}" in message
    file.write_bytes(b"\xff\xd8\xff\xe0")
    assert "cannot be read as text" in refusal(root, exclude=file)
    for empty in ("", "\n", "path,label\n"):
        file.write_text(empty)
        assert refusal(root, exclude=file) == f"data.exclude={file} names no photo: leave it out, data.exclude=null."

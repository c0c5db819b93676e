"""The index of a data directory: which photos there are, of which class, in which split, and what is wrong.

Three layouts are read: `<dir>/{train,valid,test}/<class>/*`; `<dir>/<class>/*`, which is split here; and any files, of
which a table gives the classes, and the splits if it has them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dogbreeds.data.kept import read_excluded
from dogbreeds.data.labels import find
from dogbreeds.data.layout import BESIDE, SPLITS, grouped
from dogbreeds.data.names import MAX_LISTED, listing, readable
from dogbreeds.data.splits import Photo, complete, leaks, spread
from dogbreeds.errors import DataError
from dogbreeds.files import write_csv
from dogbreeds.formats import counted

_COLUMNS = ("path", "state", "split", "class", "reason")
_EXCLUDED, _SAMPLED = "named by data.exclude", "not in the one batch of trainer.one_batch"

#: Takes files and a number of threads (None is one per core, 0 none); returns their digests, and of files that are no
#: images the reasons.
Examine = Callable[[Sequence[Path], int | None], tuple[dict[Path, str], dict[Path, str]]]


@dataclass(frozen=True)
class BreedFolders:
    """The photos of a data directory.

    Attributes:
        classes: Sorted folder names; a photo's label is the position in it.
        splits: The readable photos of train, valid and test, sorted by class and name.
        unreadable: Photos that cannot be read, each with the reason.
        left_out: Everything else that is not used, likewise.
        leaks: Groups of byte-identical files in more than one split.
        drawn: Some split has no folder of its own, or is in no row of the table, and was drawn from the others.
        sampled: Only some photos were kept, so that a split may lack classes.
        excluded: Photos that were left out because `data.exclude` names them.
        calibrating: The photos of train, also those that are left out: what int8 is calibrated on stays the same.
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[Photo, ...]]
    unreadable: tuple[tuple[Path, str], ...]
    left_out: tuple[tuple[Path, str], ...]
    leaks: tuple[tuple[Path, ...], ...]
    drawn: bool
    sampled: bool = False
    excluded: int = 0
    calibrating: tuple[Photo, ...] = ()

    def files(self) -> dict[str, Path]:
        """Returns the digest of every photo, with one file that holds its bytes."""
        return {photo.digest: photo.path for photo in self.photos()}

    def without(self, reasons: Mapping[str, str]) -> BreedFolders:
        """Leaves out photos, by digest, that turned out to be unreadable."""
        found = [(photo.path, reasons[photo.digest]) for photo in self.photos() if photo.digest in reasons]
        if not found:
            return self
        splits = self.where(lambda photo: photo.digest not in reasons)
        unreadable = tuple(sorted((*self.unreadable, *found)))
        return replace(self, splits=splits, unreadable=unreadable, leaks=leaks(splits))

    def check(self, on_bad_image: str) -> None:
        """Raises a DataError where a split lacks a class, or photos cannot be read that shall not be left out."""
        if not self.sampled:
            _refuse_missing_classes(self)
        if self.unreadable and on_bad_image == "stop":
            raise DataError(
                f"{len(self.unreadable)} of {len(self.photos()) + len(self.unreadable)} photos in "
                f"data.dir={self.root} cannot be read:\n"
                + "\n".join(self.describe_unreadable())
                + "\nRepair or remove them, or leave them out with data.on_bad_image=skip."
            )

    def describe_unreadable(self) -> list[str]:
        return listing(f"{self._name(path)}: {reason}" for path, reason in self.unreadable)

    def save(self, path: Path) -> None:
        """Writes a row for every file: its split and class where it is used, and the reason where it is not."""
        used = [
            (photo.name, "used", split, self.classes[photo.label], None)
            for split, photos in self.splits.items()
            for photo in photos
        ]
        others = [
            (self._name(file), state, None, None, reason)
            for state, left in (("unreadable", self.unreadable), ("left out", self.left_out))
            for file, reason in left
        ]
        rows = sorted((*used, *others), key=lambda row: row[0])
        write_csv(path, _COLUMNS, (dict(zip(_COLUMNS, row, strict=True)) for row in rows))

    def _name(self, path: Path) -> str:
        return readable(path.relative_to(self.root))

    def sample(self, count: int) -> BreedFolders:
        """Keeps `count` photos of each split, spread over the classes."""
        splits = {split: spread(photos, count) for split, photos in self.splits.items()}
        kept = {photo.path for photos in splits.values() for photo in photos}
        others = tuple((one.path, _SAMPLED) for one in self.photos() if one.path not in kept)
        return replace(self, splits=splits, sampled=True, left_out=(*self.left_out, *others))

    def share(self, number: int, count: int) -> BreedFolders:
        """Keeps one of `count` shares of the photos, from 0: photos of equal bytes are in the same one."""
        return replace(self, splits=self.where(lambda photo: int(photo.digest[:8], 16) % count == number))

    def where(self, holds: Callable[[Photo], bool]) -> dict[str, tuple[Photo, ...]]:
        return {split: tuple(filter(holds, photos)) for split, photos in self.splits.items()}

    def photos(self) -> list[Photo]:
        """Returns the photos of all splits, one after the other."""
        return [photo for photos in self.splits.values() for photo in photos]

    def counts(self) -> dict[str, int]:
        return {split: len(photos) for split, photos in self.splits.items()}

    def class_counts(self, split: str) -> list[int]:
        counted = Counter(photo.label for photo in self.splits[split])
        return [counted[label] for label in range(len(self.classes))]

    def describe(self) -> str:
        """Returns the lines that a run prints about its data."""
        lines = [f"{len(self.classes)} breeds in {self.root}"]
        for split in SPLITS:
            per_class = self.class_counts(split)
            lines.append(f"  {split:<6}{sum(per_class):>6} photos, {min(per_class)} to {max(per_class)} per breed")
        left = [(path, reason) for path, reason in self.left_out if reason != BESIDE]
        if left:
            lines += ["  left out, and why:", *grouped(self.root, left)]
        if self.unreadable:
            lines.append(f"  left out, since they cannot be read: {counted(len(self.unreadable), 'photo')}")
            lines += self.describe_unreadable()
        if self.leaks:
            subject = counted(len(self.leaks), "photo appears", "photos appear")
            lines.append(f"  {subject} in more than one split; scores are inflated:")
            lines += listing(" = ".join(map(self._name, group)) for group in self.leaks)
        return "\n".join(lines)


def index(
    root: Path,
    examine: Examine,
    labels: Path | None = None,
    exclude: Path | None = None,
    *,
    split_seed: int,
    workers: int | None,
) -> BreedFolders:
    """Finds every photo and sorts it into splits, without those that the file `exclude` names.

    `labels` is a table in place of class folders. Splits are drawn from all files, so that leaving some out, or finding
    unreadable ones later, does not change them.
    """
    excluded = [] if exclude is None else read_excluded(exclude)
    found = find(root, labels)
    digests, reasons = examine(found.photos(), workers)
    classes = found.classes
    numbers = {name: label for label, name in enumerate(classes)}
    photos = {
        split: [
            Photo(path, numbers[name], digests[path], readable(path.relative_to(root)))
            for name in sorted(of_class)
            for path in of_class[name]
        ]
        for split, of_class in found.splits.items()
    }
    splits = {split: tuple(ones) for split, ones in complete(photos, classes, split_seed).items()}
    drawn = len(found.splits) < len(SPLITS)
    folders = BreedFolders(
        root, tuple(classes), splits, (), found.left_out, leaks(splits), drawn, calibrating=splits["train"]
    )
    if exclude is not None:
        folders = _excluding(folders, excluded, exclude)
    return folders.without({digests[path]: reason for path, reason in reasons.items()})


def _excluding(folders: BreedFolders, names: Sequence[str], file: Path) -> BreedFolders:
    """Leaves out photos that a file names by their paths below the root."""
    photos = {photo.name: photo for photo in folders.photos()}
    unknown = [name for name in names if name not in photos]
    if unknown:
        raise DataError(
            f"data.exclude={file} names {counted(len(unknown), 'photo')} that data.dir={folders.root} does not hold:\n"
            + "\n".join(listing(unknown))
            + "\nPaths are relative to data.dir, such as train/Beagle/1.jpg."
        )
    named = set(names)
    left = folders.where(lambda photo: photo.name not in named)
    others = tuple((photos[name].path, _EXCLUDED) for name in names)
    remaining = replace(
        folders, splits=left, leaks=leaks(left), excluded=len(names), left_out=(*folders.left_out, *others)
    )
    _refuse_missing_classes(remaining, f"Remove lines from data.exclude={file}, or the class from all splits.")
    return remaining


def _refuse_missing_classes(folders: BreedFolders, advice: str | None = None) -> None:
    problems = []
    for split in SPLITS:
        missing = [folders.classes[label] for label, count in enumerate(folders.class_counts(split)) if count == 0]
        if missing:
            problems.append(f"  {split}: {', '.join(missing[:MAX_LISTED])}{', ...' * (len(missing) > MAX_LISTED)}")
    if problems:
        usual = "Add photos there, or remove the class from the other splits."
        if folders.drawn:
            usual = (
                "A split that is not given is drawn from the others: give each class "
                "at least three different photos, or remove the class."
            )
        raise DataError(
            f"Every class needs a photo in every split, but data.dir={folders.root} has none in\n"
            + "\n".join(problems)
            + f"\n{advice or usual}"
            + "".join(f"\n{line}" for line in grouped(folders.root, (*folders.unreadable, *folders.left_out)))
        )

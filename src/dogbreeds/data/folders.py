"""The index of breed folders: which photos there are, of which breed, in which split, and what is wrong.

Two layouts are read: `<dir>/{train,valid|val,test}/<class>/*` and `<dir>/<class>/*`, which is split here.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dogbreeds.data.layout import SPLITS, find_photos
from dogbreeds.errors import DataError

_SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
_LISTED = 10

#: Takes files and a number of threads; gives their digests, and the reasons why some are no images.
Examine = Callable[[Sequence[Path], int | None], tuple[dict[Path, str], dict[Path, str]]]


@dataclass(frozen=True)
class Photo:
    """One image file: its class as an index into the classes, and the SHA-256 of its bytes."""

    path: Path
    label: int
    digest: str


@dataclass(frozen=True)
class BreedFolders:
    """What the index pass found.

    Attributes:
        root: The folder that was read.
        classes: Sorted folder names; a photo's label is the position in it.
        splits: The readable photos of train, valid and test, sorted by class and name.
        unreadable: Files that were left out, each with the reason.
        leaks: Groups of byte-identical files that stand in more than one split.
        drawn: Some split had no folder of its own and was drawn from the others.
        sampled: Only some photos were kept, so that classes may lack them.
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[Photo, ...]]
    unreadable: tuple[tuple[Path, str], ...]
    leaks: tuple[tuple[Path, ...], ...]
    drawn: bool
    sampled: bool = False

    def files(self) -> dict[str, Path]:
        """Returns the digest of every photo, with one file that holds its bytes."""
        return {photo.digest: photo.path for photos in self.splits.values() for photo in photos}

    def without(self, reasons: Mapping[str, str], *, on_bad_image: str) -> BreedFolders:
        """Leaves photos out that turned out to be unreadable.

        Args:
            reasons: Digests, each with what is wrong.
            on_bad_image: `stop` raises, `skip` leaves them out.

        Raises:
            DataError: There are some and they may not be skipped, or too few are left.
        """
        found = [(photo.path, reasons[photo.digest]) for photo in self._photos() if photo.digest in reasons]
        if not found:
            return self
        unreadable = (*self.unreadable, *found)
        if on_bad_image == "stop":
            raise DataError(
                f"{len(unreadable)} of {len(self._photos()) + len(self.unreadable)} files in data.dir={self.root} "
                "cannot be read as images:\n"
                + "\n".join(_listing(f"{path}: {reason}" for path, reason in sorted(unreadable)))
                + "\nRepair or remove them, or leave them out with data.on_bad_image=skip."
            )
        splits = {
            split: tuple(photo for photo in photos if photo.digest not in reasons)
            for split, photos in self.splits.items()
        }
        remaining = replace(self, splits=splits, unreadable=tuple(sorted(unreadable)), leaks=_leaks(splits))
        if not self.sampled:
            _refuse_missing_classes(remaining)
        return remaining

    def sample(self, count: int) -> BreedFolders:
        """Keeps `count` photos of each split, spread over the classes."""
        splits = {split: _spread(photos, count) for split, photos in self.splits.items()}
        return replace(self, splits=splits, sampled=True)

    def _photos(self) -> list[Photo]:
        return [photo for photos in self.splits.values() for photo in photos]

    def counts(self) -> dict[str, int]:
        """Returns the number of photos per split."""
        return {split: len(photos) for split, photos in self.splits.items()}

    def class_counts(self, split: str) -> list[int]:
        """Returns the number of photos per class of one split, in the order of the classes."""
        counted = Counter(photo.label for photo in self.splits[split])
        return [counted[label] for label in range(len(self.classes))]

    def describe(self) -> str:
        """Returns the lines that a run prints about its data."""
        lines = [f"{len(self.classes)} breeds in {self.root}"]
        for split in SPLITS:
            per_class = self.class_counts(split)
            lines.append(f"  {split:<6}{sum(per_class):>6} photos, {min(per_class)} to {max(per_class)} of a breed")
        if self.unreadable:
            lines.append(f"  {len(self.unreadable)} unreadable files left out:")
            lines += _listing(f"{path}: {reason}" for path, reason in self.unreadable)
        if self.leaks:
            lines.append(f"  {len(self.leaks)} photos stand in more than one split, so scores flatter:")
            lines += _listing(" = ".join(str(path.relative_to(self.root)) for path in group) for group in self.leaks)
        return "\n".join(lines)


def index(root: Path, examine: Examine, *, on_bad_image: str, split_seed: int, workers: int | None) -> BreedFolders:
    """Finds every photo and sorts it into splits.

    Splits are drawn over all files, so that they stay the same when unreadable ones are found later.

    Args:
        root: The folder of breed folders.
        examine: Returns the digests of files, and why some are no images as far as is known.
        on_bad_image: `stop` raises when a file is no image, `skip` leaves it out.
        split_seed: Decides the split of folders that come without one.
        workers: Threads; None is one per core, 0 is none.

    Raises:
        DataError: There is no such folder, there are no photos, fewer than two breeds, a breed is missing
            from a split, or files are unreadable and may not be skipped.
    """
    files = find_photos(root)
    labels = {name: label for label, name in enumerate(sorted({p.parent.name for ps in files.values() for p in ps}))}
    digests, reasons = examine([path for paths in files.values() for path in paths], workers)
    photos = {
        split: [Photo(path, labels[path.parent.name], digests[path]) for path in paths]
        for split, paths in files.items()
    }
    splits = {split: tuple(photos_of) for split, photos_of in _complete(photos, split_seed).items()}
    folders = BreedFolders(root, tuple(labels), splits, (), _leaks(splits), drawn=len(files) < len(SPLITS))
    _refuse_missing_classes(folders)
    return folders.without({digests[path]: reason for path, reason in reasons.items()}, on_bad_image=on_bad_image)


def _complete(photos: dict[str, list[Photo]], seed: int) -> dict[str, list[Photo]]:
    """Adds the splits that the folders lack: from all photos, or from the split next to it."""
    if "all" in photos:
        return _divide(photos["all"], _SHARES, seed)
    if "valid" not in photos and "test" not in photos:
        return _divide(photos["train"], _SHARES, seed)
    if "valid" not in photos:
        photos = photos | _divide(photos["train"], {"train": 0.9, "valid": 0.1}, seed)
    if "test" not in photos:
        photos = photos | _divide(photos["valid"], {"valid": 0.5, "test": 0.5}, seed)
    return {split: photos[split] for split in SPLITS}


def _divide(photos: Iterable[Photo], shares: dict[str, float], seed: int) -> dict[str, list[Photo]]:
    """Splits photos by class; identical photos stay together, so that a copy cannot leak."""
    by_class: dict[int, dict[str, list[Photo]]] = defaultdict(lambda: defaultdict(list))
    for photo in photos:
        by_class[photo.label][photo.digest].append(photo)
    result: dict[str, list[Photo]] = {split: [] for split in shares}
    names = list(shares)
    for label, groups in sorted(by_class.items()):
        digests = sorted(groups)
        random.Random(f"{seed}/{label}").shuffle(digests)
        # Every split gets at least one, the first split what remains.
        sizes = {name: max(1, round(share * len(digests))) for name, share in shares.items()}
        start = 0
        for name in reversed(names):
            end = len(digests) if name == names[0] else start + sizes[name]
            result[name] += [photo for digest in digests[start:end] for photo in groups[digest]]
            start = end
    return {split: sorted(chosen, key=lambda photo: photo.path) for split, chosen in result.items()}


def _leaks(splits: dict[str, tuple[Photo, ...]]) -> tuple[tuple[Path, ...], ...]:
    places: dict[str, dict[str, Path]] = defaultdict(dict)
    for split, photos in splits.items():
        for photo in photos:
            places[photo.digest].setdefault(split, photo.path)
    return tuple(tuple(found.values()) for found in places.values() if len(found) > 1)


def _refuse_missing_classes(folders: BreedFolders) -> None:
    problems = []
    for split in SPLITS:
        missing = [folders.classes[label] for label, count in enumerate(folders.class_counts(split)) if count == 0]
        if missing:
            listed = ", ".join(missing[:_LISTED]) + (", ..." if len(missing) > _LISTED else "")
            problems.append(f"  {split}: {listed}")
    if problems:
        advice = "Add photos there, or remove the class folder from the other splits."
        if folders.drawn:
            advice = (
                "A split without a folder of its own is drawn from the others, so give each class "
                "at least three different photos, or remove its folder."
            )
        raise DataError(
            f"Every class needs a photo in every split, but data.dir={folders.root} has none in\n"
            + "\n".join(problems)
            + f"\n{advice}"
        )


def _spread(photos: Sequence[Photo], count: int) -> tuple[Photo, ...]:
    """`count` photos, taken from every class in turn."""
    position: dict[int, int] = {}
    turns = []
    for photo in photos:
        position[photo.label] = position.get(photo.label, -1) + 1
        turns.append((position[photo.label], photo.label, photo))
    chosen = sorted(turns, key=lambda turn: turn[:2])[:count]
    return tuple(photo for _, _, photo in sorted(chosen, key=lambda turn: (turn[1], turn[0])))


def _listing(lines: Iterable[str]) -> list[str]:
    every = list(lines)
    more = [f"    ... and {len(every) - _LISTED} more"] if len(every) > _LISTED else []
    return [f"    {line}" for line in every[:_LISTED]] + more

"""The index of breed folders: which photos there are, of which breed, in which split, and what is wrong.

Two layouts are read: `<dir>/{train,valid|val,test}/<class>/*` and `<dir>/<class>/*`, which is split here.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dogbreeds.data.images import UnreadableImageError, decode
from dogbreeds.data.layout import SPLITS, find_photos
from dogbreeds.errors import DataError

_SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
_LISTED = 10


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
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[Photo, ...]]
    unreadable: tuple[tuple[Path, str], ...]
    leaks: tuple[tuple[Path, ...], ...]

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


def index(root: Path, *, on_bad_image: str, split_seed: int, workers: int | None) -> BreedFolders:
    """Reads and decodes every photo once and sorts it into splits.

    Args:
        root: The folder of breed folders.
        on_bad_image: `stop` raises when a file cannot be decoded, `skip` leaves it out.
        split_seed: Decides the split of folders that come without one.
        workers: Threads; None is one per core, 0 is none.

    Raises:
        DataError: There is no such folder, there are no photos, fewer than two breeds, a breed is missing
            from a split, or files are unreadable and may not be skipped.
    """
    files = find_photos(root)
    classes = tuple(sorted({path.parent.name for paths in files.values() for path in paths}))
    paths = [path for split in files.values() for path in split]
    examined = dict(zip(paths, _map(_examine, paths, workers), strict=True))
    unreadable = tuple((path, reason) for path, (_, reason) in examined.items() if reason)
    if unreadable and on_bad_image == "stop":
        raise DataError(
            f"{len(unreadable)} of {len(paths)} files in data.dir={root} cannot be read as images:\n"
            + "\n".join(_listing(f"{path}: {reason}" for path, reason in unreadable))
            + "\nRepair or remove them, or leave them out with data.on_bad_image=skip."
        )
    labels = {name: label for label, name in enumerate(classes)}
    photos = {
        split: [Photo(path, labels[path.parent.name], examined[path][0]) for path in paths if not examined[path][1]]
        for split, paths in files.items()
    }
    splits = {split: tuple(photos_of) for split, photos_of in _complete(photos, split_seed).items()}
    folders = BreedFolders(root, classes, splits, unreadable, _leaks(splits))
    _refuse_missing_classes(folders, drawn=len(files) < len(SPLITS))
    return folders


def _examine(path: Path) -> tuple[str, str]:
    """Returns the digest of a file and why it is unreadable ('' when it is readable)."""
    try:
        content = path.read_bytes()
        decode(content)
    except (UnreadableImageError, OSError) as error:
        return "", str(error)
    return hashlib.sha256(content).hexdigest(), ""


def _map(
    function: Callable[[Path], tuple[str, str]], paths: Sequence[Path], workers: int | None
) -> list[tuple[str, str]]:
    if workers == 0:
        return [function(path) for path in paths]
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return list(pool.map(function, paths))


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


def _refuse_missing_classes(folders: BreedFolders, *, drawn: bool) -> None:
    problems = []
    for split in SPLITS:
        missing = [
            name for name, count in zip(folders.classes, folders.class_counts(split), strict=True) if count == 0
        ]
        if missing:
            listed = ", ".join(missing[:_LISTED]) + (", ..." if len(missing) > _LISTED else "")
            problems.append(f"  {split}: {listed}")
    if problems:
        advice = "Add photos there, or remove the class folder from the other splits."
        if drawn:
            advice = (
                "A split without a folder of its own is drawn from the others, so give each class "
                "at least three different photos, or remove its folder."
            )
        raise DataError(
            f"Every class needs a photo in every split, but data.dir={folders.root} has none in\n"
            + "\n".join(problems)
            + f"\n{advice}"
        )


def _listing(lines: Iterable[str]) -> list[str]:
    every = list(lines)
    more = [f"    ... and {len(every) - _LISTED} more"] if len(every) > _LISTED else []
    return [f"    {line}" for line in every[:_LISTED]] + more

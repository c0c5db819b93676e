"""The index of class folders: which photos there are, of which class, in which split, and what is wrong.

Two layouts are read: `<dir>/{train,valid,test}/<class>/*`, and `<dir>/<class>/*`, which is split here.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dogbreeds.data.excluded import read_excluded
from dogbreeds.data.layout import SPLITS, find_photos
from dogbreeds.errors import DataError

_SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
_MAX_LISTED = 10

#: Takes files and a number of threads; returns their digests, and for files that are not images the reasons.
Examine = Callable[[Sequence[Path], int | None], tuple[dict[Path, str], dict[Path, str]]]


@dataclass(frozen=True)
class Photo:
    """One image file: its class as an index into the classes, and the SHA-256 of its bytes."""

    path: Path
    label: int
    digest: str


@dataclass(frozen=True)
class BreedFolders:
    """The photos of a data directory.

    Attributes:
        classes: Sorted folder names; a photo's label is the position in it.
        splits: The readable photos of train, valid and test, sorted by class and name.
        unreadable: Files that were left out, each with the reason.
        leaks: Groups of byte-identical files in more than one split.
        drawn: Some split has no folder of its own and was drawn from the others.
        sampled: Only some photos were kept, so that a split may lack classes.
        excluded: Photos that were left out because `data.exclude` names them.
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[Photo, ...]]
    unreadable: tuple[tuple[Path, str], ...]
    leaks: tuple[tuple[Path, ...], ...]
    drawn: bool
    sampled: bool = False
    excluded: int = 0

    def files(self) -> dict[str, Path]:
        """Returns the digest of every photo, with one file that holds its bytes."""
        return {photo.digest: photo.path for photo in self.photos()}

    def without(self, reasons: Mapping[str, str], *, on_bad_image: str) -> BreedFolders:
        """Leaves out photos that turned out to be unreadable; raises where `on_bad_image` is `stop`, not `skip`."""
        found = [(photo.path, reasons[photo.digest]) for photo in self.photos() if photo.digest in reasons]
        if not found:
            return self
        unreadable = tuple(sorted((*self.unreadable, *found)))
        if on_bad_image == "stop":
            raise DataError(
                f"{len(unreadable)} of {len(self.photos()) + len(self.unreadable)} files in data.dir={self.root} "
                "cannot be read as images:\n"
                + "\n".join(_listing(f"{path}: {reason}" for path, reason in unreadable))
                + "\nRepair or remove them, or leave them out with data.on_bad_image=skip."
            )
        splits = {
            split: tuple(photo for photo in photos if photo.digest not in reasons)
            for split, photos in self.splits.items()
        }
        remaining = replace(self, splits=splits, unreadable=unreadable, leaks=_leaks(splits))
        if not self.sampled:
            _refuse_missing_classes(remaining)
        return remaining

    def sample(self, count: int) -> BreedFolders:
        """Keeps `count` photos of each split, spread over the classes."""
        splits = {split: _spread(photos, count) for split, photos in self.splits.items()}
        return replace(self, splits=splits, sampled=True)

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
        if self.excluded:
            lines.append(f"  {_counted(self.excluded)} left out by data.exclude")
        if self.unreadable:
            lines.append(f"  {len(self.unreadable)} unreadable files left out:")
            lines += _listing(f"{path}: {reason}" for path, reason in self.unreadable)
        if self.leaks:
            appear = "photo appears" if len(self.leaks) == 1 else "photos appear"
            lines.append(f"  {len(self.leaks)} {appear} in more than one split; scores are inflated:")
            lines += _listing(" = ".join(str(path.relative_to(self.root)) for path in group) for group in self.leaks)
        return "\n".join(lines)


def index(
    root: Path,
    examine: Examine,
    *,
    on_bad_image: str,
    split_seed: int,
    workers: int | None,
    exclude: Path | None = None,
) -> BreedFolders:
    """Finds every photo and sorts it into splits.

    Splits are drawn from all files, so that leaving some out, or finding unreadable ones later, does not change them.

    Args:
        examine: Returns the digests of files, and which are known not to be images, and why.
        split_seed: Decides the split of folders that come without one.
        workers: Threads; None is one per core, 0 is none.
        exclude: A file that names photos to leave out.
    """
    excluded = [] if exclude is None else read_excluded(exclude)
    files = find_photos(root)
    classes = sorted({path.parent.name for paths in files.values() for path in paths})
    labels = {name: label for label, name in enumerate(classes)}
    digests, reasons = examine([path for paths in files.values() for path in paths], workers)
    photos = {
        split: [Photo(path, labels[path.parent.name], digests[path]) for path in paths]
        for split, paths in files.items()
    }
    splits = {split: tuple(found) for split, found in _complete(photos, split_seed).items()}
    folders = BreedFolders(root, tuple(classes), splits, (), _leaks(splits), drawn=len(files) < len(SPLITS))
    _refuse_missing_classes(folders)
    if exclude is not None:
        folders = _excluding(folders, excluded, exclude)
    return folders.without({digests[path]: reason for path, reason in reasons.items()}, on_bad_image=on_bad_image)


def _excluding(folders: BreedFolders, paths: Sequence[str], file: Path) -> BreedFolders:
    """Leaves out photos that a file names by their paths below the root."""
    names = {photo.path: photo.path.relative_to(folders.root).as_posix() for photo in folders.photos()}
    known, named = set(names.values()), set(paths)
    unknown = [path for path in paths if path not in known]
    if unknown:
        raise DataError(
            f"data.exclude={file} names {_counted(len(unknown))} that data.dir={folders.root} does not hold:\n"
            + "\n".join(_listing(unknown))
            + "\nPaths are relative to data.dir, such as train/Beagle/1.jpg."
        )
    left = {
        split: tuple(one for one in photos if names[one.path] not in named)
        for split, photos in folders.splits.items()
    }
    remaining = replace(folders, splits=left, leaks=_leaks(left), excluded=len(paths))
    _refuse_missing_classes(remaining, f"Remove lines from data.exclude={file}, or the class from all splits.")
    return remaining


def _counted(photos: int) -> str:
    return "1 photo" if photos == 1 else f"{photos} photos"


def _complete(photos: dict[str, list[Photo]], seed: int) -> dict[str, list[Photo]]:
    """Adds the splits that have no folder: from all photos, or from the split next to them."""
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
    """Splits photos class by class; identical photos stay together, so that a copy cannot leak.

    The order within a class comes from a hash of seed, class and photo. A new class therefore moves no photo of
    another, and a new photo moves at most those at the borders between the splits.
    """
    classes: dict[str, dict[str, list[Photo]]] = defaultdict(lambda: defaultdict(list))
    for photo in photos:
        classes[photo.path.parent.name][photo.digest].append(photo)
    result: dict[str, list[Photo]] = {split: [] for split in shares}
    first, *others = shares
    for name, groups in classes.items():
        order = sorted(groups, key=lambda digest: hashlib.sha256(f"{seed}/{name}/{digest}".encode()).digest())
        # Every split gets at least one photo, the first split what remains.
        for split in reversed(others):
            size = max(1, round(shares[split] * len(groups)))
            taken, order = order[:size], order[size:]
            result[split] += [photo for digest in taken for photo in groups[digest]]
        result[first] += [photo for digest in order for photo in groups[digest]]
    return {split: sorted(chosen, key=lambda photo: photo.path) for split, chosen in result.items()}


def _leaks(splits: dict[str, tuple[Photo, ...]]) -> tuple[tuple[Path, ...], ...]:
    places: dict[str, dict[str, Path]] = defaultdict(dict)
    for split, photos in splits.items():
        for photo in photos:
            places[photo.digest].setdefault(split, photo.path)
    return tuple(tuple(found.values()) for found in places.values() if len(found) > 1)


def _refuse_missing_classes(folders: BreedFolders, advice: str | None = None) -> None:
    problems = []
    for split in SPLITS:
        missing = [folders.classes[label] for label, count in enumerate(folders.class_counts(split)) if count == 0]
        if missing:
            problems.append(f"  {split}: {', '.join(missing[:_MAX_LISTED])}{', ...' * (len(missing) > _MAX_LISTED)}")
    if problems:
        usual = "Add photos there, or remove the class folder from the other splits."
        if folders.drawn:
            usual = (
                "A split without a folder of its own is drawn from the others: give each class "
                "at least three different photos, or remove its folder."
            )
        raise DataError(
            f"Every class needs a photo in every split, but data.dir={folders.root} has none in\n"
            + "\n".join(problems)
            + f"\n{advice or usual}"
        )


def _spread(photos: Sequence[Photo], count: int) -> tuple[Photo, ...]:
    """Returns `count` photos, taken from every class in turn."""
    seen: Counter[int] = Counter()
    turns = []
    for place, photo in enumerate(photos):
        turns.append((seen[photo.label], photo.label, place))
        seen[photo.label] += 1
    return tuple(photos[place] for place in sorted(place for _, _, place in sorted(turns)[:count]))


def _listing(lines: Iterable[str]) -> list[str]:
    every = list(lines)
    more = [f"    ... and {len(every) - _MAX_LISTED} more"] if len(every) > _MAX_LISTED else []
    return [f"    {line}" for line in every[:_MAX_LISTED]] + more

"""Which photo is in which split: those that have no folder are drawn, the same ones every time."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dogbreeds.data.layout import SPLITS

_SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}


@dataclass(frozen=True, slots=True)
class Photo:
    """An image file: its class as an index, the SHA-256 of its bytes, its path below the data directory as text."""

    path: Path
    label: int
    digest: str
    name: str


def complete(photos: dict[str, list[Photo]], classes: Sequence[str], seed: int) -> dict[str, list[Photo]]:
    """Adds the splits that have no folder: from all photos, or from the split next to them."""
    if len(photos) == 1:
        (every,) = photos.values()
        return _divide(every, classes, _SHARES, seed)
    if "valid" not in photos:
        photos = photos | _divide(photos["train"], classes, {"train": 0.9, "valid": 0.1}, seed)
    if "test" not in photos:
        photos = photos | _divide(photos["valid"], classes, {"valid": 0.5, "test": 0.5}, seed)
    return {split: photos[split] for split in SPLITS}


def _divide(
    photos: Iterable[Photo], classes: Sequence[str], shares: dict[str, float], seed: int
) -> dict[str, list[Photo]]:
    """Splits photos class by class; identical photos stay together, so that a copy cannot leak.

    The order within a class comes from a hash of seed, class and photo. A new class therefore moves no photo of
    another, and a new photo moves at most those at the borders between the splits.
    """
    copies: dict[str, dict[str, list[Photo]]] = defaultdict(lambda: defaultdict(list))
    for photo in photos:
        copies[classes[photo.label]][photo.digest].append(photo)
    result: dict[str, list[Photo]] = {split: [] for split in shares}
    first, *others = shares
    for name, groups in copies.items():
        order = sorted(groups, key=lambda digest: hashlib.sha256(f"{seed}/{name}/{digest}".encode()).digest())
        # Every split gets at least one photo, the first split what remains.
        for split in reversed(others):
            size = max(1, round(shares[split] * len(groups)))
            taken, order = order[:size], order[size:]
            result[split] += [photo for digest in taken for photo in groups[digest]]
        result[first] += [photo for digest in order for photo in groups[digest]]
    return {split: sorted(chosen, key=lambda photo: (photo.label, photo.path)) for split, chosen in result.items()}


def leaks(splits: dict[str, tuple[Photo, ...]]) -> tuple[tuple[Path, ...], ...]:
    places: dict[str, dict[str, Path]] = defaultdict(dict)
    for split, photos in splits.items():
        for photo in photos:
            places[photo.digest].setdefault(split, photo.path)
    return tuple(tuple(found.values()) for found in places.values() if len(found) > 1)


def spread(photos: Sequence[Photo], count: int) -> tuple[Photo, ...]:
    """Returns `count` photos, taken from every class in turn."""
    seen: Counter[int] = Counter()
    turns = []
    for place, photo in enumerate(photos):
        turns.append((seen[photo.label], photo.label, place))
        seen[photo.label] += 1
    return tuple(photos[place] for place in sorted(place for _, _, place in sorted(turns)[:count]))

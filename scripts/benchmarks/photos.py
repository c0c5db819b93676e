"""Any number of different photos, made of those that there are."""

from __future__ import annotations

import itertools
from pathlib import Path

from dogbreeds.data.layout import find_photos
from dogbreeds.errors import DataError


def enlarge(source: Path, target: Path, count: int) -> Path:
    """Fills a folder with `count` photos in the layout of `source`.

    Photos beyond those that there are get a comment, which no decoder looks at: to the feature store they are
    different photos, and their pixels cost what the originals' cost.

    Args:
        source: A folder of breed folders with splits.
        target: A folder that does not exist.
        count: Photos in all splits.

    Returns:
        The target.

    Raises:
        DataError: There are no JPEG files in splits.
    """
    originals = sorted(path for path in find_photos(source).photos() if _is_jpeg(path))
    if not originals or not (source / "train").is_dir():
        raise DataError(f"photos={source}: the benchmark needs JPEG files in train/, valid/ and test/.")
    for number, path in zip(range(count), itertools.cycle(originals), strict=False):
        repeat = number // len(originals)
        copy = target / path.relative_to(source).with_stem(f"{path.stem}_{repeat}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(_commented(path.read_bytes(), f"copy {repeat}") if repeat else path.read_bytes())
    return target


def _is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg") and path.read_bytes()[:2] == b"\xff\xd8"


def _commented(jpeg: bytes, text: str) -> bytes:
    length = (len(text) + 2).to_bytes(2, "big")
    return jpeg[:2] + b"\xff\xfe" + length + text.encode() + jpeg[2:]

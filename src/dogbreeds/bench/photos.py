"""Any number of different photos, made of those that there are."""

from __future__ import annotations

import itertools
from pathlib import Path

from dogbreeds.data.layout import find_photos


def enlarge(source: Path, target: Path, count: int) -> Path:
    """Fills a folder with `count` photos in the layout of `source`.

    Photos beyond those that there are get bytes behind their end, which no decoder reads: to the feature store they
    are different photos, and their pixels cost what the originals' cost.

    Args:
        source: A folder of breed folders with splits.
        target: A folder that does not exist.
        count: Photos in all splits.

    Returns:
        The target.
    """
    originals = sorted(path for paths in find_photos(source).values() for path in paths)
    for number, path in zip(range(count), itertools.cycle(originals), strict=False):
        repeat = number // len(originals)
        copy = target / path.relative_to(source).with_stem(f"{path.stem}_{repeat}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes() + (f"copy {repeat}".encode() if repeat else b""))
    return target

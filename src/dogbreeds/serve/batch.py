"""Many photos at once, from the command line: find them, ask the handler, write JSON lines."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from dogbreeds.data.images import UnreadableImageError
from dogbreeds.data.layout import EXTENSIONS
from dogbreeds.errors import DataError
from dogbreeds.features.store.artefacts import Artefacts
from dogbreeds.serve.handler import Handler
from dogbreeds.serve.messages import Ranked

_BATCH_SIZE = 32


def find_images(pattern: str) -> list[Path]:
    """Returns the photos that a path, a folder or a glob names, sorted.

    Raises:
        DataError: It names none.
    """
    path = Path(pattern)
    if path.is_file():
        return [path]
    # pathlib globs below a given folder only, a pattern of the shell may start anywhere.
    candidates = path.rglob("*") if path.is_dir() else map(Path, glob.glob(pattern, recursive=True))  # noqa: PTH207
    found = sorted(
        candidate
        for candidate in candidates
        if candidate.is_file() and candidate.suffix.lower() in EXTENSIONS and not candidate.name.startswith(".")
    )
    if not found:
        raise DataError(
            f"images={pattern} names no photo ({', '.join(EXTENSIONS)}). Give a file, a folder, or a glob in quotes."
        )
    return found


def json_lines(package: str, paths: Sequence[Path], cache: Path) -> Iterator[tuple[str, bool]]:
    """Yields one JSON line per photo, in order, and whether the photo could be read.

    Args:
        package: A model package.
        paths: The photos.
        cache: The directory of the feature store, which keeps the converted network too.

    Raises:
        PackageError: `package` is no usable model package.
    """
    handler = Handler.load(Path(package), keeper=Artefacts.of(cache))
    size = _BATCH_SIZE
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), size):
            batch = paths[start : start + size]
            read = list(pool.map(lambda path: _read(handler, path), batch))
            images = [image for image, _ in read if image is not None]
            answers = iter(handler.rank(handler.logits(torch.stack(images))) if images else [])
            for path, (image, reason) in zip(batch, read, strict=True):
                line = {"error": reason} if image is None else _answer(next(answers))
                yield json.dumps({"path": str(path), **line}, ensure_ascii=False), image is not None


def _read(handler: Handler, path: Path) -> tuple[Tensor | None, str]:
    try:
        return handler.pixels(path.read_bytes()), ""
    except (UnreadableImageError, OSError) as error:
        return None, str(error)


def _answer(ranked: list[Ranked]) -> dict[str, object]:
    best = ranked[0]
    return {
        "breed": best.breed,
        "index": best.index,
        "probability": round(best.probability, 6),
        "top": [{**asdict(one), "probability": round(one.probability, 6)} for one in ranked],
    }

"""Many photos at once, from the command line: find them, and ask a package about all of them."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from dogbreeds.data.layout import EXTENSIONS
from dogbreeds.errors import DataError
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.package.predictor import Handler
from dogbreeds.serve.answers_file import Row, answered, unanswered

# Batches of each lane that are read ahead of the one whose rows are taken: enough that a slow one holds nobody up.
_AHEAD = 4


def find_images(pattern: str) -> list[Path]:
    """Returns the photos that a path, a folder or a glob names, sorted.

    A folder is searched to its depth; what is hidden in it, such as `.git`, is left out.

    Raises:
        DataError: It names none.
    """
    path = Path(pattern)
    if path.is_file():
        return [path]
    # pathlib globs below a given folder only, a pattern of the shell may start anywhere.
    candidates = _below(path) if path.is_dir() else map(Path, glob.glob(pattern, recursive=True))  # noqa: PTH207
    found = sorted(
        candidate
        for candidate in candidates
        if candidate.suffix.lower() in EXTENSIONS and not candidate.name.startswith(".") and candidate.is_file()
    )
    if not found:
        raise DataError(
            f"images={pattern} names no photo ({', '.join(EXTENSIONS)}). Give a file, a folder, or a glob in quotes."
        )
    return found


def rows(package: Path, paths: Sequence[Path], cache: Path) -> Iterator[tuple[Row, bool]]:
    """Yields what a package says of each photo, in order, and whether the photo could be read.

    As in the feature pass, each lane reads a batch and computes it, so reading overlaps with computing. Only a few
    batches are under way at a time, whatever the number of photos.

    Args:
        package: A model package.
        paths: The photos.
        cache: The directory of the feature store, which keeps the converted network too.

    Yields:
        The row: `path`, `breed`, `index`, `probability` and `top`, or `path` and `error`; see `Row`.

    Raises:
        PackageError: `package` is no usable model package.
    """
    handler = Handler.load(package, keeper=BlobCache.of(cache), one_by_one=False)
    engine = handler.engine
    under_way: deque[Future[list[tuple[Row, bool]]]] = deque()
    pool = ThreadPoolExecutor(engine.workers)
    try:
        for start in range(0, len(paths), engine.batch_size):
            under_way.append(pool.submit(_batch, handler, paths[start : start + engine.batch_size]))
            if len(under_way) == _AHEAD * engine.workers:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
    finally:
        # Whoever takes rows may stop at any of them.
        pool.shutdown(cancel_futures=True)


def _below(folder: Path) -> Iterator[Path]:
    for directory, inner, files in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from (Path(directory, name) for name in files)


def _batch(handler: Handler, paths: Sequence[Path]) -> list[tuple[Row, bool]]:
    read = [_content(path) for path in paths]
    contents = [content for content in read if isinstance(content, bytes)]
    answers = iter(handler.answers(contents) if contents else [])
    # What is no file has no answer, and its own reason.
    found = [next(answers) if isinstance(content, bytes) else content for content in read]
    return [
        (unanswered(path, one), False) if isinstance(one, Exception) else (answered(path, one), True)
        for path, one in zip(paths, found, strict=True)
    ]


def _content(path: Path) -> bytes | OSError:
    try:
        return path.read_bytes()
    except OSError as error:
        return error

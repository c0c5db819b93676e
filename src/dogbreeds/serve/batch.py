"""Finds many photos, and predicts them with a package on this machine."""

import glob
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from dogbreeds.data.layout import EXTENSIONS, files_below, grouped, may_be_photo
from dogbreeds.errors import DataError
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.overrides import paths_in
from dogbreeds.package.messages import Prediction
from dogbreeds.package.predictor import TOP, Predictor
from dogbreeds.serve.answers_file import Row, error_row, prediction_row

MakeRow = Callable[[Path, Sequence[Prediction]], Row]
# Batches that each worker runs ahead of the caller, so that a slow one holds nobody up.
_AHEAD = 4


def find_images(pattern: str) -> list[Path]:
    """Returns the photos that a path, a folder or a glob matches, sorted, or those of several with commas.

    A name that exists is no glob. Folders are searched as the folder of a class is for training; what is left out is
    named on stderr.
    """
    path = Path(pattern)
    if path.is_file():
        return [path]
    if path.is_dir():
        below = list(files_below(path))
        found = sorted(one for one, reason in below if not reason)
        if left := [(one, reason) for one, reason in below if reason]:
            print("\n".join([f"Left out of images={pattern}:", *grouped(path, left)]), file=sys.stderr)
    else:
        pieces = paths_in(pattern)
        if len(pieces) > 1 and (any(map(os.path.lexists, pieces)) or all("*" in piece for piece in pieces)):
            return list(dict.fromkeys(photo for piece in pieces for photo in find_images(piece)))
        root = next(one for one in (path, *path.parents) if one.exists())
        # pathlib globs neither hidden folders nor links as a shell does.
        matched = glob.iglob(str(path.relative_to(root)), root_dir=root, recursive=True)  # noqa: PTH207
        files = (root / name for name in matched)
        found = sorted(one for one in files if one.is_file() and not one.name.startswith(".") and may_be_photo(one))
    if not found:
        nothing = f"images={pattern} matches no photo ({', '.join(EXTENSIONS)})."
        raise DataError(f"{nothing} Give a file, a folder or a quoted glob.")
    return found


def rows(
    package: Path, paths: Sequence[Path], cache: Path, row_of: MakeRow = prediction_row, top: int = TOP
) -> Iterator[tuple[Row, bool]]:
    """Yields a row for each photo, in order, and whether the photo could be read.

    `row_of` makes it of the `top` breeds. Each worker reads a batch and computes it, so that reading overlaps with
    computing. Few batches are in memory at a time, whatever the number of photos.
    """
    predictor = Predictor.load(package, cache=BlobCache.of(cache), one_by_one=False)
    predictor.top, engine = top, predictor.engine
    under_way: deque[Future[list[tuple[Row, bool]]]] = deque()
    pool = ThreadPoolExecutor(engine.workers)
    try:
        for start in range(0, len(paths), engine.batch_size):
            under_way.append(pool.submit(_batch, predictor, row_of, paths[start : start + engine.batch_size]))
            if len(under_way) == _AHEAD * engine.workers:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
    finally:
        # The caller may stop at any row.
        pool.shutdown(cancel_futures=True)


def _batch(predictor: Predictor, row_of: MakeRow, paths: Sequence[Path]) -> list[tuple[Row, bool]]:
    read = [_content(path) for path in paths]
    contents = [content for content in read if isinstance(content, bytes)]
    predicted = iter(predictor.predict_each(contents) if contents else [])
    found = [next(predicted) if isinstance(content, bytes) else content for content in read]
    return [
        (error_row(path, one), False) if isinstance(one, Exception) else (row_of(path, one), True)
        for path, one in zip(paths, found, strict=True)
    ]


def _content(path: Path) -> bytes | OSError:
    try:
        return path.read_bytes()
    except OSError as error:
        return error

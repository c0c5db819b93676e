"""Finds many photos, and predicts them with a package on this machine."""

import glob
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from dogbreeds.data.kinds import EXTENSIONS, may_be_photo
from dogbreeds.data.layout import files_below, grouped
from dogbreeds.errors import ConfigError, DataError
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.files import check_place, replacing, writing
from dogbreeds.overrides import paths_in
from dogbreeds.package.explanation import Explainer, is_picture
from dogbreeds.package.messages import Answer
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve.answers_file import Row, error_row, prediction_row

#: Takes a photo's path, its bytes, and the answer to it.
MakeRow = Callable[[Path, bytes, Answer], Row]
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


def load(package: Path, cache: Path) -> Predictor:
    """Loads a package for many photos at once; `cache` is the directory of the feature store."""
    return Predictor.load(package, cache=BlobCache.of(cache), one_by_one=False)


def rows(predictor: Predictor, paths: Sequence[Path], row_of: MakeRow = prediction_row) -> Iterator[tuple[Row, bool]]:
    """Yields a row for each photo, in order, and whether the photo could be read.

    Each worker reads a batch and computes it, so that reading overlaps with computing. Few batches are in memory
    at a time, whatever the number of photos.
    """
    engine = predictor.engine
    pool = ThreadPoolExecutor(engine.workers)
    parts = (paths[start : start + engine.batch_size] for start in range(0, len(paths), engine.batch_size))
    begun = (pool.submit(_batch, predictor, part, row_of) for part in parts)
    try:
        under_way = deque(islice(begun, _AHEAD * engine.workers))
        while under_way:
            yield from under_way.popleft().result()
            under_way.extend(islice(begun, 1))
    finally:
        # The caller may stop at any row.
        pool.shutdown(cancel_futures=True)


def _batch(predictor: Predictor, paths: Sequence[Path], row_of: MakeRow) -> list[tuple[Row, bool]]:
    read = [_content(path) for path in paths]
    contents = [content for content in read if isinstance(content, bytes)]
    predicted = iter(predictor.predict_each(contents) if contents else [])
    found = [(content, next(predicted)) if isinstance(content, bytes) else (b"", content) for content in read]
    return [
        (error_row(path, one), False) if isinstance(one, Exception) else (row_of(path, content, one), True)
        for path, (content, one) in zip(paths, found, strict=True)
    ]


def picture_folder(name: str, images: str) -> Path:
    """Makes the folder `explain=<name>`, for pictures alone: among other files they could replace one or be lost."""
    folder, photos = Path(name).expanduser(), Path(images)
    if photos.is_dir() and folder.resolve().is_relative_to(photos.resolve()):
        raise ConfigError(f"explain={name} lies in images={images}, where its pictures would be photos: name another.")
    visible = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if other := next((path for path in visible if not is_picture(path)), None):
        raise ConfigError(f"explain={name} has other files in it, such as {other}: name another folder.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    check_place(folder / "photo.jpg", f"explain={name}")
    return folder


def drawing(explainer: Explainer, folder: Path, paths: Sequence[Path]) -> MakeRow:
    """Draws a picture with each row, called as the photo below the folder of all, with .jpg behind it."""
    places = {path: Path(os.path.normpath(path.absolute())) for path in paths}
    root = os.path.commonpath([place.parent for place in places.values()])

    def drawn(path: Path, content: bytes, answer: Answer) -> Row:
        target = folder / f"{places[path].relative_to(root)}.jpg"
        picture = explainer.picture(content, answer.top[0].index)
        with replacing(target) as temporary:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(picture)
        return prediction_row(path, content, answer)

    return drawn


def _content(path: Path) -> bytes | OSError:
    try:
        return path.read_bytes()
    except OSError as error:
        return error

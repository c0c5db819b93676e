"""Files that name photos to leave out."""

import csv
import io
from pathlib import Path, PurePosixPath

from dogbreeds.data.kept import read_text
from dogbreeds.errors import DataError

_COLUMN = "path"


def read_excluded(file: Path) -> list[str]:
    """Returns the paths below `data.dir` that a file names, each once.

    It is a CSV file with a column `path`, such as an audit.csv, or has one path in each line.

    Raises:
        DataError: It is not text, or names no photo.
    """
    text = read_text(file, "data.exclude")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if _COLUMN in next(csv.reader(lines[:1]), ()):
        # With their own ends of lines, which a name may have too.
        found = [row[_COLUMN] for row in csv.DictReader(io.StringIO(text, newline=""))]
    else:
        found = lines
    paths = list(dict.fromkeys(PurePosixPath(path).as_posix() for path in found if path))
    if not paths:
        raise DataError(f"data.exclude={file} names no photo: leave it out, data.exclude=null.")
    return paths

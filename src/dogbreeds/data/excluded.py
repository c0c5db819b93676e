"""Files that name photos to leave out."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath

from dogbreeds.errors import DataError

_COLUMN = "path"


def read_excluded(file: Path) -> list[str]:
    """Returns the paths below `data.dir` that a file names, each once.

    It is a CSV file with a column `path`, such as an audit.csv, or has one path in each line.

    Raises:
        DataError: It is not text, or has no rows.
    """
    try:
        # A spreadsheet begins its files with a byte order mark.
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.exclude={file} cannot be read as text: {error}.") from error
    if lines and _COLUMN in next(csv.reader(lines[:1])):
        found = [row[_COLUMN] for row in csv.DictReader(lines)]
    else:
        found = [line.strip() for line in lines]
    return list(dict.fromkeys(PurePosixPath(path).as_posix() for path in found if path))

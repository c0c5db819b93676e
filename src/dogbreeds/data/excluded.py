"""Files that name photos to leave out, and their copies beside what was made without these photos."""

import csv
import io
import shutil
from pathlib import Path, PurePosixPath

from dogbreeds.errors import ConfigError, DataError
from dogbreeds.files import replacing
from dogbreeds.run_directory import EXCLUDED

_COLUMN = "path"


def read_excluded(file: Path) -> list[str]:
    """Returns the paths below `data.dir` that a file names, each once.

    It is a CSV file with a column `path`, such as an audit.csv, or has one path in each line.

    Raises:
        DataError: It is not text, or names no photo.
    """
    try:
        # A spreadsheet begins its files with a byte order mark.
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.exclude={file} cannot be read as text: {error}.") from error
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


def keep(file: str, directory: Path) -> Path:
    """Copies what `data.exclude` names to a run or a search, which leaves out the same photos when it is resumed."""
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(directory / EXCLUDED) as temporary:
        shutil.copyfile(file, temporary)
    return directory / EXCLUDED


def kept(directory: Path, file: str) -> Path:
    """Returns what `keep` made of a file.

    Raises:
        ConfigError: It is missing.
    """
    copy = directory / EXCLUDED
    if not copy.is_file():
        raise ConfigError(f"{copy} is missing, the copy of data.exclude={file}: copy that file there again.")
    return copy

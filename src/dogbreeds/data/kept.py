"""Files that say which photos there are, named by the settings of `data` in `KEPT`, and their copies in a run."""

import csv
import io
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from dogbreeds.errors import ConfigError, DataError
from dogbreeds.files import replacing, yaml_beside
from dogbreeds.run_directory import KEPT

#: Files by the settings that name them.
Named = dict[str, Any]


def named_files(data: object) -> Named:
    """Returns what a section `data` of a config names; older ones lack the later settings."""
    return {name: str(file) for name in KEPT if (file := getattr(data, name, None)) is not None}


def read_text(file: Path, setting: str) -> str:
    """Returns the text of a file that a setting names; raises a DataError where it is no UTF-8."""
    try:
        # A spreadsheet begins its files with a byte order mark.
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{setting}={file} cannot be read as text: {error}. Save it as CSV in UTF-8.") from error


def read_table(file: Path) -> tuple[str, str, int, list[int]]:
    """Returns a table of labels as text, what separates its cells, how many a line has, and where its columns are.

    These are file, label and split; -1 for no split.

    Raises:
        DataError: It is not text, or does not name a file and a label.
    """
    text, columns = read_text(file, "data.labels"), yaml_beside(__file__, "labels.yaml")
    first = next(iter(text.splitlines()), "")
    for separator in ",;\t":
        (header,) = csv.reader([first], delimiter=separator, skipinitialspace=True)
        given = {name.strip().lower(): place for place, name in enumerate(header)}
        places = [next((given[one] for one in names if one in given), -1) for names in columns.values()]
        if min(places[:2]) >= 0:
            return text, separator, len(header), places
    named = " and a ".join(f"{kind} ({', '.join(names)})" for kind, names in columns.items() if kind != "split")
    raise DataError(f"data.labels={file}: its first line must name columns for a {named}, but it is {first[:80]!r}.")


def labelled(photos: Path, *places: Path) -> str | None:
    """Returns what to type for photos whose table of labels is the first of some files, or lies in some folders."""
    # Needs Hydra, which not every reader of photos has.
    from dogbreeds.overrides import override

    for file in (file for place in places for file in (place, *sorted(place.glob("*.csv"))) if file.is_file()):
        try:
            read_table(file)
        except (DataError, csv.Error):
            continue
        return f"{override('data.dir', photos)} {override('data.labels', file)}"
    return None


def read_excluded(file: Path) -> list[str]:
    """Returns the paths below `data.dir` that a file names, each once.

    It is a CSV file with a column `path`, such as an audit.csv, or has one path in each line.

    Raises:
        DataError: It is not text, or names no photo.
    """
    text = read_text(file, "data.exclude")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if "path" in next(csv.reader(lines[:1]), ()):
        # With their own ends of lines, which a name may have too.
        lines = [row["path"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    paths = list(dict.fromkeys(PurePosixPath(path).as_posix() for path in lines if path))
    if not paths:
        raise DataError(f"data.exclude={file} names no photo: leave it out, data.exclude=null.")
    return paths


def keep(named: Named, directory: Path) -> Named:
    """Copies files to a run or a search, which has the same photos when it is resumed, and returns the copies."""
    for name, file in named.items():
        directory.mkdir(parents=True, exist_ok=True)
        with replacing(directory / KEPT[name]) as temporary:
            shutil.copyfile(file, temporary)
    return kept(named, directory)


def kept(named: Named, directory: Path) -> Named:
    """Returns what `keep` made of files; raises a ConfigError where a copy is missing."""
    copies = {name: str(directory / KEPT[name]) for name in named}
    for name, file in named.items():
        if not (copy := Path(copies[name])).is_file():
            raise ConfigError(f"{copy} is missing, the copy of data.{name}={file}: copy that file there again.")
    return copies

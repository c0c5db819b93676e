"""A table that gives each photo its class, and maybe its split, where photos lie in no class folders.

It is a CSV file that names its columns (labels.yaml) in the first line, with commas, semicolons or tabs between them.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple
from unicodedata import normalize

from dogbreeds.data import layout
from dogbreeds.data.kept import read_table
from dogbreeds.data.names import class_name, listing, readable
from dogbreeds.errors import DataError

_ADVICE = "Files are named by their paths (with /) below data.dir, or below train/ in it, with or without their ending."


class _Row(NamedTuple):
    """A line as it stands, and what we read in it: the split is `all` without such a column, empty where unknown."""

    line: str
    file: str
    label: str
    split: str


def find(root: str | Path, labels: str | Path | None) -> layout.Found:
    """Returns the photos of a data directory: those in class folders, or those that a table names.

    Raises:
        DataError: There is no such folder, it has not photos of two classes, or the table does not fit it.
    """
    root = Path(root)
    return layout.find_photos(root) if labels is None or not root.is_dir() else _labelled(root, Path(labels))


def _labelled(root: Path, labels: Path) -> layout.Found:
    below = dict(layout.files_below(root))
    rows, repeated = _matched(root, labels, below)
    left = [(path, "another row of data.labels says the same") for path in repeated]
    splits: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path, why in below.items():
        if reason := why or "in no row of data.labels" * (path not in rows):
            left.append((path, reason))
        else:
            splits[rows[path].split][rows[path].label].append(path)
    if not splits.keys() & {"train", "all"}:
        raise DataError(f"data.labels={labels} has no row{' with the split train' if splits else ''}.")
    found = layout.Found(splits, tuple(left))
    layout.refuse_few_classes(root, found)
    return found


def _matched(root: Path, labels: Path, below: Mapping[Path, str]) -> tuple[dict[Path, _Row], list[Path]]:
    """Returns the row of each file that a table names, and the files of rows that say the same once more."""
    named: dict[str, list[Path]] = defaultdict(list)
    for path, reason in below.items():
        whole = _text(path.relative_to(root))
        for called in {whole, whole if reason else whole.removesuffix(path.suffix)}:
            named[called].append(path)
    rows: dict[Path, _Row] = {}
    repeated, problems = [], []
    for row in _rows(labels):
        name = _text(PurePosixPath(row.file))
        paths = named.get(name) or named.get(f"train/{name}") or []
        first = rows.setdefault(paths[0], row) if len(paths) == 1 else row
        # One that is no photo is not sent to a job, which reads the same table.
        unfit = below[paths[0]] if paths else "no such file"
        wrong = {
            "no file": not row.file,
            "no label": not row.label,
            f"the split is none of {', '.join(layout.SPLITS)}": not row.split,
            unfit: unfit,
            f"several files: {' and '.join(path.name for path in paths)}": len(paths) > 1,
            f"another label or split than in {first.line}": first[2:] != row[2:],
        }
        if problem := next((what for what, found in wrong.items() if found), None):
            problems.append(f"{row.line}: {problem}")
        elif first is not row:
            repeated.append(paths[0])
    if problems:
        said = f"data.labels={labels} does not fit data.dir={readable(root)}. Rows that cannot be used: {len(problems)}"
        raise DataError("\n".join([said, *listing(problems), _ADVICE]))
    return rows, repeated


def _text(path: PurePath) -> str:
    # macOS and Linux write the same umlaut with different bytes.
    return normalize("NFC", readable(path.as_posix()))


def _rows(labels: Path) -> Iterator[_Row]:
    line = 1
    try:
        text, separator, width, (file, label, split) = read_table(labels)
        # Strict, so that a quotation mark that is never closed does not swallow all that follows.
        table = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
        for row in islice(table, 1, None):
            if any(row[width:]):
                raise csv.Error(f"more cells than columns in {separator.join(row)[:80]!r}")
            line = table.line_num
            cells = ["".join(row[place : place + 1]).strip() for place in (file, label, split) if place >= 0]
            known = layout.SPLIT_NAMES.get(cells[2].lower(), "") if split >= 0 else "all"
            if any(cells):
                yield _Row(f"line {line}: {', '.join(cells)}", cells[0], class_name(cells[1]), known)
    except csv.Error as error:
        said = f"after line {line}: {error}. Look for a quotation mark that is missing or not closed."
        raise DataError(f"data.labels={labels} is no table {said}") from error

"""A table that gives each photo its class, and maybe its split, where photos lie in no class folders.

It is a CSV file that names its columns (labels.yaml) in the first line, with commas, semicolons or tabs between them.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from unicodedata import normalize

from dogbreeds.data import layout
from dogbreeds.data.kept import read_text
from dogbreeds.data.names import class_name, listing, readable
from dogbreeds.errors import DataError
from dogbreeds.files import yaml_beside

_SPLITS = (*layout.SPLITS, "all")


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
    rows, repeated = _matched(root, labels, _by_name(root, below))
    left = [(path, "another row of data.labels says the same") for path in repeated]
    splits: dict[str, dict[str, list[Path]]] = {split: defaultdict(list) for split in _SPLITS}
    for path, why in below.items():
        if reason := why or "in no row of data.labels" * (path not in rows):
            left.append((path, reason))
        else:
            splits[rows[path].split][rows[path].label].append(path)
    found = layout.Found({split: classes for split, classes in splits.items() if classes}, tuple(left))
    layout.refuse_few_classes(root, found)
    if not splits["train"] and not splits["all"]:
        raise DataError(f"data.labels={labels} has no row with the split train.")
    return found


def _by_name(root: Path, paths: Iterable[Path]) -> Mapping[str, list[Path]]:
    """Returns files by their paths below a folder, and by these without the ending of a photo."""
    found = defaultdict(list)
    for path in paths:
        # macOS and Linux write the same umlaut with different bytes.
        name = normalize("NFC", readable(path.relative_to(root)))
        for one in {name, layout.without_ending(name)}:
            found[one].append(path)
    return found


def _matched(root: Path, labels: Path, files: Mapping[str, list[Path]]) -> tuple[dict[Path, _Row], list[Path]]:
    """Returns the row of each file that a table names, and the files of rows that say the same once more."""
    rows: dict[Path, _Row] = {}
    repeated, problems = [], defaultdict(list)
    for row in _rows(labels):
        name = normalize("NFC", PurePosixPath(row.file).as_posix())
        paths = files.get(name) or files.get(f"train/{name}") or []
        first = rows.setdefault(paths[0], row) if len(paths) == 1 else row
        wrong = {
            "no file": not row.file,
            "no label": not row.label,
            f"a split other than {', '.join(layout.SPLITS)}": not row.split,
            "a file that is not there": not paths,
            "a name that several files have": len(paths) > 1,
            "a file that has another label or split": first[2:] != row[2:],
        }
        if problem := next((what for what, found in wrong.items() if found), None):
            problems[problem].append(row.line if first is row else f"{row.line}, and {first.line}")
        elif first is not row:
            repeated.append(paths[0])
    if problems:
        lines = [line for what, found in problems.items() for line in (f"  {what}: {len(found)}", *listing(found))]
        advice = "Files are named by their paths below data.dir, or below train/ in it, with or without their ending."
        said = f"data.labels={labels} does not fit data.dir={readable(root)}. Rows with"
        raise DataError("\n".join([said, *lines, advice]))
    return rows, repeated


def _rows(labels: Path) -> Iterator[_Row]:
    text = read_text(labels, "data.labels")
    columns = yaml_beside(__file__, "labels.yaml")
    for separator in ",;\t":
        # Strict, so that a quotation mark that is never closed does not swallow all that follows.
        table = csv.DictReader(io.StringIO(text, newline=""), restval="", delimiter=separator, strict=True)
        given = {name.strip().lower(): name for name in table.fieldnames or ()}
        file, label, split = (next((given[one] for one in names if one in given), None) for names in columns.values())
        if file and label:
            break
    else:
        named = " and ".join(f"a {kind} ({', '.join(names)})" for kind, names in columns.items() if kind != "split")
        raise DataError(f"data.labels={labels}: its first line must name {named}, but it is: {text.splitlines()[:1]}")
    try:
        for row in table:
            cells = [row[name].strip() for name in (file, label, split) if name]
            known = layout.SPLIT_NAMES.get(cells[2].lower(), "") if split else "all"
            if any(cells):
                yield _Row(f"line {table.line_num}: {', '.join(cells)}", cells[0], class_name(cells[1]), known)
    except csv.Error as error:
        said = f"after line {table.line_num}: {error}. Look for a quotation mark that is not closed."
        raise DataError(f"data.labels={labels} is no table {said}") from error

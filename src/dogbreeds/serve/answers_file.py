"""Where answers to many photos go: JSON lines on stdout, or a file of them as CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.files import check_place, replacing
from dogbreeds.package.messages import Ranked, as_json
from dogbreeds.package.predictor import TOP

#: `path`, `breed`, `index`, `probability`, and `top`: the best breeds as dictionaries of the latter three. Of a photo
#: without an answer: `path` and `error`.
Row = dict[str, Any]

_Write = Callable[[Row], object]
#: Rows of a group, which is what Parquet keeps in memory.
_GROUP = 10_000
_OTHERS = range(2, TOP + 1)
_COLUMNS = (
    *("path", "breed", "index", "probability"),
    *(f"{name}_{place}" for place in _OTHERS for name in ("breed", "probability")),
    "error",
)


def answered(path: Path, ranked: Sequence[Ranked]) -> Row:
    """Returns the row of a photo that was answered."""
    top = as_json(ranked)["top"]
    return {"path": _readable(path), **top[0], "top": top}


def unanswered(path: Path, error: Exception) -> Row:
    """Returns the row of a photo that was not."""
    return {"path": _readable(path), "error": str(error)}


def _readable(path: Path) -> str:
    """Names of files are bytes; those that are no text cannot be written as they are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def check_out(out: str | None) -> Path | None:
    """Returns where answers are to be written, None for stdout, before anything is asked.

    Raises:
        ConfigError: It cannot be written, or its ending is none of those known.
    """
    if out is None:
        return None
    path = Path(out).expanduser()
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"out={out}: the name must end in {', '.join(_FORMATS)}, which says how it is written.")
    check_place(path, f"out={out}")
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise ConfigError(f"out={out} needs one more package: pip install pyarrow.")
    return path


def write_rows(rows: Iterable[tuple[Row, bool]], out: Path | None, total: int) -> int:
    """Writes rows as they come, and shows on a terminal how far they are.

    A file appears when it is whole; lines on stdout appear one by one. Where the answers end too early, those so far
    are kept beside it, as `<name>.partial.<ending>`: a whole file too, which stderr names.

    Args:
        rows: Each with whether its photo was answered.
        out: As `check_out` returns it.
        total: How many there will be.

    Returns:
        How many photos were not answered; their rows say why.

    Raises:
        UserError: From `rows`, once the rows before it have been kept; an interruption likewise.
    """
    if out is None:
        return sum(_printed(row, answered) for row, answered in rows)
    unanswered, written = 0, 0
    ended: UserError | KeyboardInterrupt | None = None
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with replacing(out) as temporary:
        with (
            _FORMATS[out.suffix.lower()](temporary) as write,
            Progress(*columns, transient=True, console=console, disable=not console.is_terminal) as bar,
        ):
            task = bar.add_task("Photos", total=total)
            try:
                for row, answered in rows:
                    write(row)
                    written += 1
                    unanswered += not answered
                    bar.advance(task)
            except (UserError, KeyboardInterrupt) as error:
                # Raised below, once the file has been closed and can be read.
                ended = error
        if ended is not None:
            if written:
                kept = temporary.replace(out.with_name(f"{out.stem}.partial{out.suffix}"))
                print(f"{kept} has the rows so far, of {written} photos.", file=sys.stderr)
            raise ended
    return unanswered


def _printed(row: Row, answered: bool) -> bool:
    print(_line(row), flush=True)
    return not answered


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)


@contextmanager
def _json_lines(path: Path) -> Iterator[_Write]:
    with path.open("w", encoding="utf-8") as file:
        yield lambda row: file.write(f"{_line(row)}\n")


@contextmanager
def _csv(path: Path) -> Iterator[_Write]:
    """A column for each place of the answer, since a table has no lists; empty where there is nothing."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        yield lambda row: writer.writerow(_flat(row))


def _flat(row: Row) -> Row:
    others = zip(_OTHERS, islice(row.get("top", ()), 1, None), strict=False)
    places = {f"{name}_{place}": one[name] for place, one in others for name in ("breed", "probability")}
    return {name: value for name, value in row.items() if name != "top"} | places


@contextmanager
def _parquet(path: Path) -> Iterator[_Write]:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    answer = [("breed", pyarrow.string()), ("index", pyarrow.int32()), ("probability", pyarrow.float64())]
    schema = pyarrow.schema(
        [
            ("path", pyarrow.string()),
            *answer,
            ("top", pyarrow.list_(pyarrow.struct(answer))),
            ("error", pyarrow.string()),
        ]
    )
    group: list[Row] = []
    with ParquetWriter(path, schema, compression="zstd") as writer:

        def flush() -> None:
            writer.write_table(pyarrow.Table.from_pylist(group, schema))
            group.clear()

        def write(row: Row) -> None:
            group.append(row)
            if len(group) == _GROUP:
                flush()

        yield write
        flush()


_FORMATS = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}

"""Writes the predictions for many photos: JSON lines on stdout, or a file as CSV, JSON lines or Parquet."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dogbreeds.data.names import readable
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.files import check_place, replacing
from dogbreeds.package.messages import Answer, as_json
from dogbreeds.package.predictor import TOP

#: `path`, `breed`, `index`, `probability`, `known` and `score` where the package has a threshold, and `top`: the best
#: breeds as dictionaries of `breed`, `index`, `probability`. For a photo without a prediction: `path` and `error`.
Row = dict[str, Any]

_Write = Callable[[Row], object]
#: Opens a file, and gives what writes a row to it.
Form = Callable[[Path], AbstractContextManager[_Write]]
#: Rows that Parquet keeps in memory before it writes them.
_GROUP = 10_000
_OTHERS = range(2, TOP + 1)
_COLUMNS = (
    *("path", "breed", "index", "probability", "known", "score"),
    *(f"{name}_{place}" for place in _OTHERS for name in ("breed", "probability")),
    "error",
)


def prediction_row(path: Path, photo: bytes, answer: Answer) -> Row:
    top = as_json(answer)["top"]
    return {"path": readable(path), **top[0], **answer.familiarity, "top": top}


def error_row(path: Path, error: Exception) -> Row:
    return {"path": readable(path), "error": str(error)}


def check_out(out: str | None) -> Path | None:
    """Returns the file to write, None for stdout, before anything is computed."""
    if out is None:
        return None
    path = Path(out).expanduser()
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"out={out}: the file name must end in {', '.join(_FORMATS)}.")
    check_place(path, f"out={out}")
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise ConfigError(f"out={out} needs pyarrow: pip install pyarrow.")
    return path


def write_rows(rows: Iterable[tuple[Row, bool]], out: Path | None, total: int, form: Form | None = None) -> int:
    """Writes rows as they come, with a progress bar on a terminal.

    A file appears when it is complete; lines on stdout appear one by one. When `rows` fails, the rows before are kept
    as `<name>.partial.<ending>`, a valid file too, which stderr names, and which goes when the whole file comes.

    Args:
        rows: Each with whether its photo has a prediction.
        out: As `check_out` returns it.
        form: What opens the file; None goes by its ending.

    Returns:
        The number of photos without a prediction; their rows say why.

    Raises:
        UserError: From `rows`, once the rows before it have been kept; likewise KeyboardInterrupt.
    """
    failed, written = 0, 0
    if out is None:
        for row, predicted in rows:
            print(_line(row), flush=True)
            failed += not predicted
        return failed
    kept = out.with_name(f"{out.stem}.partial{out.suffix}")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with replacing(out) as temporary:
        try:
            with (
                (form or _FORMATS[out.suffix.lower()])(temporary) as write,
                Progress(*columns, transient=True, console=console, disable=not console.is_terminal) as bar,
            ):
                task = bar.add_task("Photos", total=total)
                for row, predicted in rows:
                    write(row)
                    written += 1
                    failed += not predicted
                    bar.advance(task)
        except (UserError, KeyboardInterrupt):
            if written:
                temporary.replace(kept)
                print(f"{kept} has the {written} rows so far.", file=sys.stderr)
            raise
    kept.unlink(missing_ok=True)
    return failed


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)


@contextmanager
def _json_lines(path: Path) -> Iterator[_Write]:
    with path.open("w", encoding="utf-8") as file:
        yield lambda row: file.write(f"{_line(row)}\n")


@contextmanager
def table(path: Path, columns: Sequence[str]) -> Iterator[_Write]:
    """Writes rows with these columns, as they stand."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        yield writer.writerow


@contextmanager
def _csv(path: Path) -> Iterator[_Write]:
    """Writes a column for each rank, because a table has no lists."""
    with table(path, _COLUMNS) as write:
        yield lambda row: write(_flat(row))


def _flat(row: Row) -> Row:
    others = zip(_OTHERS, islice(row.get("top", ()), 1, None), strict=False)
    places = {f"{name}_{place}": one[name] for place, one in others for name in ("breed", "probability")}
    known = {"known": json.dumps(row["known"])} if "known" in row else {}
    return {name: value for name, value in row.items() if name != "top"} | known | places


@contextmanager
def _parquet(path: Path) -> Iterator[_Write]:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    text = pyarrow.string()
    answer = [("breed", text), ("index", pyarrow.int32()), ("probability", pyarrow.float64())]
    top = pyarrow.list_(pyarrow.struct(answer))
    familiarity = [("known", pyarrow.bool_()), ("score", pyarrow.float64())]
    schema = pyarrow.schema([("path", text), *answer, *familiarity, ("top", top), ("error", text)])
    group: list[Row] = []
    with ParquetWriter(path, schema, compression="zstd") as writer:

        def flush() -> None:
            writer.write_table(pyarrow.Table.from_pylist(group, schema))
            group.clear()

        def write(row: Row) -> None:
            group.append(row)
            if len(group) == _GROUP:
                flush()

        try:
            yield write
        finally:
            flush()


_FORMATS = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}

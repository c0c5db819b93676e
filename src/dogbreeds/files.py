"""Files that are there whole or not at all."""

import csv
import errno
import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from dogbreeds.errors import ConfigError, PlaceError, UserError

Row = TypeVar("Row")
_ALMOST_FULL_BYTES = 1 << 16
_SECONDS_BETWEEN_FLUSHES = 1.0


def check_place(path: Path, setting: str) -> None:
    """Refuses a place where no file can be written, before what is to be written there costs anything."""
    if path.is_dir():
        raise ConfigError(f"{setting}: that is a folder.")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{setting}: that is no regular file.")
    if not path.parent.is_dir():
        raise ConfigError(f"{setting}: there is no {path.parent}.")
    with writing(path), tempfile.TemporaryFile(dir=path.parent):
        pass


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a place beside a file, which takes the file's place when the block ends, and goes when it fails.

    Processes of a distributed run write the same file at once, so each has a place of its own.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with writing(path):
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Raises a `PlaceError` about a file or folder where it cannot be written."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise PlaceError(place, error) from error
    except Exception as error:
        # Libraries in other languages say so in words of their own.
        if shutil.disk_usage(place.parent).free > _ALMOST_FULL_BYTES:
            raise
        raise PlaceError(place, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error


@contextmanager
def reading(path: Path, kind: type[UserError] = UserError, *also: type[Exception]) -> Iterator[None]:
    """Raises a `UserError` about a file that does not hold what was written there; `also` are errors that say so."""
    damage: tuple[type[Exception], ...] = (ValueError, TypeError, LookupError, AttributeError, csv.Error, *also)
    try:
        yield
    except damage as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise kind(f"{path} is damaged ({reason}). Put a good copy of it there, or move it away.") from error


def write_text(path: Path, content: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def json_text(value: object, line: str = "\n") -> str:
    """Returns JSON with a line for each entry of an object, begun by `line`, and lists of numbers or words on one."""
    if isinstance(value, Mapping) and value:
        entries = [f"{json.dumps(name)}: {json_text(inner, f'{line} ')}" for name, inner in value.items()]
        return f"{{{line} {f',{line} '.join(entries)}{line}}}"
    if isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        return f"[{line} {f',{line} '.join(json_text(inner, f'{line} ') for inner in value)}{line}]"
    return json.dumps(value)


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a file of JSON; an empty one where there is no file."""
    with reading(path):
        return {**json.loads(path.read_text(encoding="utf-8"))} if path.is_file() else {}


def yaml_beside(module: str, name: str) -> Any:
    """Returns the content of a file of YAML that lies beside the file of a module."""
    # A model package, which needs no YAML, carries this file.
    import yaml

    return yaml.safe_load(Path(module).with_name(name).read_text(encoding="utf-8"))


def lines_beside(module: str, name: str, **values: object) -> list[str]:
    """Returns the lines of a template of Jinja that lies beside the file of a module, filled with values."""
    # A model package, which needs no Jinja, carries this file.
    from jinja2 import Environment, StrictUndefined

    template = Path(module).with_name(name).read_text(encoding="utf-8")
    strict = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return strict.from_string(template).render(values).rstrip("\n").split("\n")


def read_csv(path: Path, parsed: Callable[[dict[str, Any]], Row]) -> list[Row]:
    """Returns what each row of what `write_csv` wrote is parsed to; none where there is no file."""
    if not path.is_file():
        return []
    with reading(path), path.open(newline="", encoding="utf-8") as file:
        return [parsed(row) for row in csv.DictReader(file)]


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def drop_torn_line(path: Path) -> None:
    """Removes what a crash left of the last line, so that the next one does not become part of it."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)


def read_lines(path: Path, parsed: Callable[[str], Row]) -> list[Row]:
    """Returns what the lines of a file are parsed to, up to one that a crash tore; none where there is no file."""
    if not path.exists():
        return []
    with reading(path), path.open(encoding="utf-8") as file:
        return [parsed(line) for line in file if line.endswith("\n")]


class Appender:
    """Appends lines to a file; what a crash can cost is what came since the last flush."""

    def __init__(self, path: Path, every: int) -> None:
        """Opens a file at its end, and makes its directory.

        It is flushed after `every` lines; lines that come slowly are flushed each second.
        """
        self._path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            drop_torn_line(path)
            self._file = path.open("a", encoding="utf-8")
        self._every, self._since, self._flushed = every, 0, time.monotonic()

    def add(self, line: str) -> None:
        self._file.write(line + "\n")
        self._since += 1
        if self._since >= self._every or time.monotonic() - self._flushed > _SECONDS_BETWEEN_FLUSHES:
            with writing(self._path):
                self._file.flush()
            self._since, self._flushed = 0, time.monotonic()

    def close(self) -> None:
        self._file.close()


def pack(archive: Path, members: Mapping[str, Path | bytes], level: int) -> None:
    """Writes a .tar.gz, whole or not at all.

    Members are sorted and have no owner and no time. What links lead to is packed in their place.
    """
    with (
        replacing(archive) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=level, mtime=0) as packed,
        # Two hard links of a file would become a file and a link.
        tarfile.open(fileobj=packed, mode="w", dereference=True) as tar,
    ):
        for name, content in sorted(members.items()):
            if isinstance(content, Path):
                tar.add(content, name, recursive=False, filter=_anonymous)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(_anonymous(member), io.BytesIO(content))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    return member.replace(mtime=0, mode=0o644, uid=0, gid=0, uname="", gname="", deep=False)

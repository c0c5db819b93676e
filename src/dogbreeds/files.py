"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dogbreeds.errors import ConfigError


def check_place(path: Path, setting: str) -> None:
    """Refuses a place where no file can be written, before what is to be written there costs anything.

    Args:
        path: The file.
        setting: How it was typed, such as `out=answers.csv`.

    Raises:
        ConfigError: It is a folder, or in none.
    """
    if path.is_dir():
        raise ConfigError(f"{setting}: that is a folder.")
    if not path.parent.is_dir():
        raise ConfigError(f"{setting}: there is no {path.parent}.")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a place beside a file, which takes the file's place when the block ends, and goes when it fails.

    Processes of a distributed run write the same file at once, so each has a place of its own.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Writes a text file."""
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")

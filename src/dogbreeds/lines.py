"""Files of lines that are only ever appended to, and that a crash leaves readable."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

_SECONDS_BETWEEN_FLUSHES = 1.0


def drop_torn_line(path: Path) -> None:
    """Removes what a crash left of the last line, so that the next one does not become part of it."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)


def whole_lines(path: Path) -> Iterator[str]:
    """Yields the lines of a file up to one that a crash tore; none where there is no file."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield line


class Appender:
    """Appends lines to a file; what a crash can cost is what came since the last flush."""

    def __init__(self, path: Path, every: int) -> None:
        """Opens a file at its end, and makes its directory.

        Args:
            path: Where to.
            every: Lines between two flushes, at most; lines that come slowly are flushed each second.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_torn_line(path)
        self._file = path.open("a", encoding="utf-8")
        self._every, self._since, self._flushed = every, 0, time.monotonic()

    def add(self, line: str) -> None:
        """Appends a line, given without its end."""
        self._file.write(line + "\n")
        self._since += 1
        if self._since >= self._every or time.monotonic() - self._flushed > _SECONDS_BETWEEN_FLUSHES:
            self.flush()

    def flush(self) -> None:
        """Hands what was written to the operating system."""
        self._file.flush()
        self._since, self._flushed = 0, time.monotonic()

    def close(self) -> None:
        """Writes the rest."""
        self._file.close()

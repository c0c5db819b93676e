"""Files of lines that are only ever appended to."""

from __future__ import annotations

from pathlib import Path


def drop_torn_line(path: Path) -> None:
    """Removes what a crash left of the last line, so that the next one does not become part of it."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)

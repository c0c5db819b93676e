"""What files hold, so that they can be named by it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dogbreeds.errors import DataError


@dataclass(frozen=True)
class Content:
    """A file as it was when it was read.

    Attributes:
        path: Where it is.
        digest: The SHA-256 of its bytes.
        size: Its length in bytes.
        modified: When it had last been written to, in nanoseconds since 1970.
    """

    path: Path
    digest: str
    size: int
    modified: int

    def changed(self) -> bool:
        """Tells whether somebody has written to the file, or removed it, since it was read."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return True
        return (status.st_size, status.st_mtime_ns) != (self.size, self.modified)


def read(path: Path) -> Content:
    """Reads a file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    return Content(path, digest, status.st_size, status.st_mtime_ns)


def read_all(paths: Sequence[Path]) -> Iterator[Content]:
    """Reads files, as many at a time as there are cores, and yields them in their order.

    Raises:
        DataError: One cannot be read.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(read, paths)


def object_name(path: Path, root: Path) -> str:
    """Returns the path of a file relative to its folder, as names of objects are written.

    Raises:
        DataError: Its bytes are no UTF-8, which S3 insists on.
    """
    name = path.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{str(path)!r}: S3 takes names in UTF-8 only. Rename it.") from error
    return name

"""SHA-256 digests of files, by which they are named in S3."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dogbreeds.errors import DataError


@dataclass(frozen=True)
class FileDigest:
    """A file when it was read: the SHA-256 of its bytes, in hexadecimal digits, and their number."""

    path: Path
    digest: str
    size: int


def read(path: Path) -> FileDigest:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    return FileDigest(path, digest, size)


def read_all(paths: Sequence[Path]) -> Iterator[FileDigest]:
    """Digests files in parallel, and yields them in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(read, paths)

"""Files beside the features that are expensive to recompute: converted networks, exact solutions."""

import contextlib
import hashlib
import logging
import os
import re
import time
import uuid
from pathlib import Path
from typing import Self

log = logging.getLogger(__name__)

_DIGEST_BYTES = 32
_NAME = re.compile(r"\w[\w.-]*")
_PARTIAL = ".partial"
_STRAY_SECONDS = 3600.0


class BlobCache:
    """Named bytes, written whole and checked when they are read; the least recently used go first."""

    def __init__(self, directory: Path) -> None:
        """Keeps them in `directory`; `put` warns where that cannot be created."""
        with contextlib.suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

    @classmethod
    def of(cls, store: Path) -> Self:
        """Opens the one that belongs to the feature store in a directory."""
        return cls(store.expanduser() / "artefacts")

    def get(self, name: str) -> bytes | None:
        """Returns the bytes under a name; None where there are none, or the file is damaged."""
        path = self._path(name)
        try:
            content = path.read_bytes()
        except OSError as error:
            log.debug("%s", error)
            return None
        with contextlib.suppress(OSError):
            # Another user's store cannot be written to, but reading it is fine.
            os.utime(path)
        digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            log.warning("%s is damaged and will be recomputed.", path)
            path.unlink(missing_ok=True)
            return None
        return content

    def put(self, name: str, content: bytes) -> None:
        """Replaces the bytes under a name; a full disk is a warning and not an error."""
        path = self._path(name)
        temporary = self._directory / f"{uuid.uuid4().hex}{_PARTIAL}"
        try:
            with temporary.open("wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            log.warning("%s is not kept for later runs: %s", path, error)

    def occupied(self) -> int:
        return sum(size for _, size, _ in self._files())

    def evict(self, excess: float) -> int:
        """Removes the least recently used until `excess` bytes are free, and returns how many are."""
        freed = 0
        for _, size, path in sorted(self._files()):
            if freed >= excess:
                break
            freed += self._remove(path, size)
        return freed

    def prune(self, oldest: float) -> int:
        """Removes what was last used before `oldest` (seconds since 1970), and returns the bytes that this freed."""
        return sum(self._remove(path, size) for used, size, path in self._files() if used <= oldest)

    def _files(self) -> list[tuple[float, int, Path]]:
        """Time of last use, bytes and path of each file; other processes may remove files meanwhile."""
        found = []
        for path in self._directory.iterdir() if self._directory.is_dir() else ():
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found.append((status.st_mtime, status.st_size, path))
        return found

    def _remove(self, path: Path, size: int) -> int:
        if path.suffix == _PARTIAL and path.exists() and path.stat().st_mtime > time.time() - _STRAY_SECONDS:
            # Another process is writing it.
            return 0
        path.unlink(missing_ok=True)
        return size

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a file name")
        return self._directory / name

"""Files beside the features that are dear to make again: converted networks, exact solutions."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
import uuid
from pathlib import Path

log = logging.getLogger(__name__)

_DIGEST_BYTES = 32
_NAME = re.compile(r"\w[\w.-]*")
_PARTIAL = ".partial"
_STRAY_SECONDS = 3600.0


class Artefacts:
    """Named bytes, written whole and checked when they are read; the ones used longest ago go first."""

    def __init__(self, directory: Path) -> None:
        """Keeps them in `directory`; where that cannot be made, `put` says so."""
        with contextlib.suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

    @classmethod
    def of(cls, store: Path) -> Artefacts:
        """Opens those of the feature store in a directory."""
        return cls(store.expanduser() / "artefacts")

    def get(self, name: str) -> bytes | None:
        """Returns what was kept under a name; None where there is nothing, or a damaged file."""
        path = self._path(name)
        try:
            content = path.read_bytes()
        except OSError as error:
            log.debug("%s", error)
            return None
        with contextlib.suppress(OSError):
            # Nobody may write into another user's store, but reading it is fine.
            os.utime(path)
        digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            log.warning("%s is damaged and is made again.", path)
            path.unlink(missing_ok=True)
            return None
        return content

    def put(self, name: str, content: bytes) -> None:
        """Keeps bytes under a name, in place of what was there; where the disk is full it says so and goes on."""
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
        """Returns their bytes on disk."""
        return sum(size for _, size, _ in self._files())

    def evict(self, excess: float) -> int:
        """Removes what was used longest ago until `excess` bytes are free, and returns how many are."""
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
        """When each file was last used, its bytes and its path; others may remove files meanwhile."""
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
            # Somebody is writing it.
            return 0
        path.unlink(missing_ok=True)
        return size

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a file's name")
        return self._directory / name

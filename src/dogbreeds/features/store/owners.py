"""Which processes are alive: one that computes features holds a file lock, released when it dies."""

import threading
import uuid
from pathlib import Path

from filelock import FileLock, Timeout

_SUFFIX = ".owner"


class Owners:
    """The processes that compute features into one store."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        # Held while owners register and are examined: none is taken for dead before it holds its lock.
        self._registry = FileLock(directory / "registry.lock")
        self._mutex = threading.Lock()
        self._own: FileLock | None = None
        self._name = ""

    @property
    def own(self) -> str:
        """The name of this process, registered on first access."""
        with self._mutex:
            if self._own is None:
                with self._registry:
                    self._name = uuid.uuid4().hex
                    self._own = self._lock(self._name)
                    self._own.acquire()
            return self._name

    def dead(self, names: set[str]) -> set[str]:
        """Returns those of `names` whose process has ended."""
        others = names - {self._name} if self._own else names
        with self._registry:
            return {name for name in others if self._has_ended(name)}

    def _has_ended(self, name: str) -> bool:
        if not self._path(name).exists():
            return True
        lock = self._lock(name)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        self._path(name).unlink(missing_ok=True)
        lock.release()
        return True

    def close(self) -> None:
        """Unregisters this process."""
        with self._mutex:
            if self._own is not None:
                self._path(self._name).unlink(missing_ok=True)
                self._own.release()
                self._own = None

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{_SUFFIX}"

    def _lock(self, name: str) -> FileLock:
        return FileLock(self._path(name), is_singleton=False, thread_local=False)

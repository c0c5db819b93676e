"""Runs that survive the loss of their machine: what there is of one, in the directory that the service keeps.

The service copies that directory to S3 file by file, at moments of its own, and puts the files back when a job
starts again. It may take a machine away without the program being told, so nothing is left for the end.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from dogbreeds.files import replacing

log = logging.getLogger(__name__)

# Two, in turns: while one is written or copied, the other is whole.
_NAMES = ("0.zip", "1.zip")
_PARTIAL = ".partial"


class Snapshots:
    """The newest states of a directory, each one file that proves itself whole."""

    def __init__(self, place: Path, directory: Path, leave_out: tuple[str, ...] = ()) -> None:
        """Takes what is kept where.

        Args:
            place: Where the snapshots lie; nothing else may.
            directory: What they are of.
            leave_out: Names at its top that the work makes anew.
        """
        self._place, self._directory, self._leave_out = place, directory, leave_out
        self._number = 0

    def save(self) -> None:
        """Writes a snapshot in place of the older one.

        Files that grow meanwhile are kept as far as they are read; those at the top of the directory are read first,
        so that what they say of the others is never ahead of them.
        """
        self._number += 1
        self._place.mkdir(parents=True, exist_ok=True)
        path = self._place / _NAMES[self._number % len(_NAMES)]
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.comment = str(self._number).encode()
            for file in self._files():
                with contextlib.suppress(FileNotFoundError):
                    # Replaced by a newer one since it was listed.
                    archive.write(file, file.relative_to(self._directory))

    def restore(self) -> bool:
        """Puts the newest whole snapshot into the directory; says whether there was one."""
        for stray in self._place.glob(f"*{_PARTIAL}"):
            stray.unlink()
        found = {number: path for path in map(self._place.joinpath, _NAMES) for number in _numbers(path)}
        if not found:
            return False
        self._number = max(found)
        with zipfile.ZipFile(found[self._number]) as archive:
            archive.extractall(self._directory)
        return True

    def _files(self) -> list[Path]:
        files = [path for path in self._directory.rglob("*") if path.is_file() and path.suffix != _PARTIAL]
        places = {path: path.relative_to(self._directory).parts for path in files}
        kept = [path for path in files if places[path][0] not in self._leave_out]
        return sorted(kept, key=lambda path: (len(places[path]), places[path]))


def _numbers(path: Path) -> list[int]:
    """Returns the number of a snapshot; none where the file is missing, or was cut off or mixed up in copying."""
    if not path.is_file():
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None
            return [int(archive.comment)] if whole else []
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        log.warning("%s is damaged (%s); the one before it is used, if there is one.", path, error)
        return []


@contextlib.contextmanager
def saving(snapshots: Snapshots | None, seconds: float) -> Iterator[None]:
    """Saves from a thread of its own again and again, for work that is sound at every moment, and once at the end.

    Args:
        snapshots: What is saved; None saves nothing.
        seconds: From one snapshot to the next.
    """
    if snapshots is None:
        yield
        return
    over = threading.Event()

    def save() -> None:
        while not over.wait(max(seconds, 1.0)):
            snapshots.save()

    thread = threading.Thread(target=save, name="snapshots", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    snapshots.save()


class Due:
    """Says when enough time has passed since the last time that it said so."""

    def __init__(self, seconds: float) -> None:
        """Starts the clock."""
        self._seconds, self._last = seconds, time.monotonic()

    def now(self) -> bool:
        """Says whether it is time, and starts the clock again where it is."""
        if time.monotonic() - self._last < self._seconds:
            return False
        self._last = time.monotonic()
        return True

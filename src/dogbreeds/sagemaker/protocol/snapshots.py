"""Snapshots of a run in the checkpoint directory, so that it survives the loss of its instance.

The service copies that directory to S3 file by file, at any moment, and restores the files when a job restarts. It
may take an instance away without telling the program, so nothing is left for the end.
"""

import contextlib
import logging
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

from dogbreeds.files import replacing

log = logging.getLogger(__name__)

# Used alternately: while one is written or copied, the other is complete.
_NAMES = ("0.zip", "1.zip")
_PARTIAL = ".partial"


class Snapshots:
    """The newest states of a directory in another one, each a zip whose checksums show whether it is complete."""

    def __init__(self, place: Path, directory: Path, leave_out: tuple[str, ...] = ()) -> None:
        self._place, self._directory, self._leave_out = place, directory, leave_out
        self._number = 0

    def save(self) -> None:
        """Writes a snapshot in place of the older one.

        Files that grow meanwhile are saved as far as they are read. Those at the top of the directory are read first,
        so that they never mention what the snapshot lacks.
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
        """Extracts the newest complete snapshot into the directory; says whether there was one."""
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
    """Returns the number of a snapshot; nothing where the file is missing, cut off or damaged."""
    if not path.is_file():
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None
            return [int(archive.comment)] if whole else []
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        log.warning("%s is damaged (%s); the one before it is used instead.", path, error)
        return []


@contextlib.contextmanager
def saving(snapshots: Snapshots | None, seconds: float) -> Iterator[None]:
    """Saves every `seconds` in a thread, and once at the end, for work that is consistent at every moment.

    Without snapshots, nothing is saved.
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

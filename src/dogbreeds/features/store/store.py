"""The feature store as a whole: one directory, an index, segments, and a limit on its size."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from dogbreeds.errors import CacheError
from dogbreeds.features.store.array import FeatureArray
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.features.store.files import FileDigests
from dogbreeds.features.store.index import DamagedIndexError, Index, NewerIndexError, Owners, damage_mark
from dogbreeds.features.store.segments import SEGMENTS, SUFFIX, ArrayKey, Layout, Segment, read_header, size_of

log = logging.getLogger(__name__)

#: The file by which a directory is known to be a store.
INDEX = "index.sqlite"
# Files of an index, the database and its write-ahead log, in the order in which they are removed.
_INDEX_FILES = (INDEX, f"{INDEX}-wal", f"{INDEX}-shm")
# By then the process that wrote a file has entered it into the index, or has ended.
_STRAY_SECONDS = 3600.0


@dataclass(frozen=True)
class Usage:
    """What one array occupies: its key, photos, bytes on disk, and when it was last used (seconds since 1970)."""

    number: int
    key: ArrayKey
    photos: int
    bytes: int
    used: float


class FeatureStore:
    """Features that outlive a run, shared by runs, trials and processes of one machine.

    Segment files hold the features, an SQLite index says where. Any process may be killed at any moment: the store
    stays valid and loses at most the batch that was being computed. The directory must be on a local disk, because
    SQLite cannot lock reliably over a network.
    """

    def __init__(self, directory: Path, max_bytes: float) -> None:
        """Opens or creates a store; beyond `max_bytes` the least recently used features make room for new ones."""
        directory = directory.expanduser()
        self.directory, self.max_bytes = directory, max_bytes
        self._segments = directory / SEGMENTS
        try:
            self._segments.mkdir(parents=True, exist_ok=True)
            self._owners = Owners(directory / "owners")
            with FileLock(directory / "index.lock"):
                self._index = self._open_index()
        except NewerIndexError:
            said = f"cache.dir={directory} was written by a newer version of dogbreeds:"
            raise CacheError(f"{said} use another directory.") from None
        except OSError as error:
            said = f"cache.dir={directory} cannot be used ({error})."
            raise CacheError(f"{said} Choose a directory that you can write to.") from error
        self.files = FileDigests(self._index)
        self.blobs = BlobCache.of(directory)
        self._arrays: list[FeatureArray] = []

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all files and unregisters this process."""
        for array in self._arrays:
            array.close()
        self._owners.close()
        self._index.close()

    def array(self, key: ArrayKey, layout: Layout) -> FeatureArray:
        """Returns the array of a key, created where there is none."""
        with self._index.transaction():
            number = _number(self._index, key, layout)
        array = FeatureArray(number, key, layout, self._index, self._owners, self._segments)
        self._arrays.append(array)
        return array

    def make_room(self, needed: int, keep: Collection[ArrayKey]) -> None:
        """Removes the least recently used features, but none under the keys `keep`, until `needed` bytes fit.

        Raises:
            CacheError: They cannot fit, whatever is removed.
        """
        self.collect()
        if self.trim(keep, needed) > 0:
            said = f"These features need {_gigabytes(needed)}, and cache.max_gb={self.max_bytes / 1e9:g}"
            raise CacheError(f"{said} has no room for them beside those in use. Raise cache.max_gb.")
        free = shutil.disk_usage(self.directory).free
        if needed > free:
            said = f"These features need {_gigabytes(needed)}, and the disk of cache.dir={self.directory}"
            raise CacheError(f"{said} has {_gigabytes(free)} left. Point cache.dir to another disk.")

    def trim(self, keep: Collection[ArrayKey], needed: int = 0) -> float:
        """Removes the least recently used features, but none under the keys `keep`, until `needed` bytes fit.

        Returns the bytes that are still in excess, 0 or less where it succeeded; where `needed` bytes cannot fit,
        nothing is removed.
        """
        excess = self.occupied() + needed - self.max_bytes
        if excess <= 0:
            return excess
        kept = {_text(key) for key in keep}
        statement = "SELECT s.id, file, owner, key FROM segments s JOIN arrays ON arrays.id = array ORDER BY used"
        candidates = self._unowned([row[:3] for row in self._index.query(statement) if row[3] not in kept])
        sizes = {number: size_of(self._segments / file) for number, file in candidates}
        if needed and sum(sizes.values()) + self.blobs.occupied() < excess:
            return excess
        freed = 0
        for number, file in candidates:
            if freed >= excess:
                break
            self._remove([(number, file)])
            freed += sizes[number]
        freed += self.blobs.evict(excess - freed)
        log.info("removed %s of the least recently used features (cache.max_gb)", _gigabytes(freed))
        return excess - freed

    def occupied(self) -> int:
        """Returns the bytes of all features and blobs on disk."""
        return sum(size_of(path) for path in self._segments.iterdir()) + self.blobs.occupied()

    def usage(self) -> list[Usage]:
        """Returns what each array occupies, the most recently used first."""
        counts = dict(self._index.query("SELECT array, COUNT(*) FROM rows GROUP BY array"))
        sizes: dict[int, int] = {}
        used: dict[int, float] = {}
        for array, file, moment in self._index.query("SELECT array, file, used FROM segments"):
            sizes[array] = sizes.get(array, 0) + size_of(self._segments / file)
            used[array] = max(used.get(array, 0.0), moment)
        found = [
            Usage(number, ArrayKey(**json.loads(key)), counts.get(number, 0), sizes[number], used[number])
            for number, key in self._index.query("SELECT id, key FROM arrays")
            if number in sizes
        ]
        return sorted(found, key=lambda usage: -usage.used)

    def prune(self, keep: Callable[[Usage], bool]) -> tuple[int, int]:
        """Removes arrays for which `keep` is false, and unused files; returns how many photos and bytes are gone."""
        before, photos = self.occupied(), 0
        for usage in self.usage():
            if keep(usage):
                continue
            statement = "SELECT id, file, owner FROM segments WHERE array = ?"
            photos += self._remove(self._unowned(self._index.query(statement, usage.number)))
        self.collect()
        return photos, before - self.occupied()

    def collect(self) -> None:
        """Removes segments without rows whose writer has ended, and enters files that the index does not know."""
        statement = (
            "SELECT id, file, owner FROM segments WHERE NOT EXISTS (SELECT 1 FROM rows WHERE segment = segments.id)"
        )
        self._remove(self._unowned(self._index.query(statement)))
        known = {file for (file,) in self._index.query("SELECT file FROM segments")}
        for path in self._segments.iterdir():
            with contextlib.suppress(FileNotFoundError):
                # Another process may remove it meanwhile.
                if path.name not in known and path.stat().st_mtime < time.time() - _STRAY_SECONDS:
                    with self._index.transaction():
                        self._enter(self._index, path)

    def _unowned(self, segments: list[tuple[Any, ...]]) -> list[tuple[int, str]]:
        """Of segments (number, file, owner), those that no living process writes to."""
        dead = self._owners.dead({owner for _, _, owner in segments})
        return [(number, file) for number, file, owner in segments if owner in dead]

    def _remove(self, segments: list[tuple[int, str]]) -> int:
        """Forgets segments and removes their files; returns the rows that they had."""
        numbers = [(number,) for number, _ in segments]
        with self._index.transaction():
            counts = [self._index.query("SELECT COUNT(*) FROM rows WHERE segment = ?", *one)[0][0] for one in numbers]
            self._index.execute_many("DELETE FROM rows WHERE segment = ?", numbers)
            self._index.execute_many("DELETE FROM segments WHERE id = ?", numbers)
        for _, file in segments:
            (self._segments / file).unlink(missing_ok=True)
        return sum(counts)

    def _open_index(self) -> Index:
        path = self.directory / INDEX
        try:
            return Index(path, self._enter_all)
        except DamagedIndexError as error:
            log.warning("The index of cache.dir=%s is damaged (%s): rebuilding it.", self.directory, error.reason)
            for name in _INDEX_FILES:
                (self.directory / name).unlink(missing_ok=True)
            # Last: whatever interrupts this, the next process finds the mark, or no index.
            damage_mark(path).unlink(missing_ok=True)
            return Index(path, self._enter_all)

    def _enter_all(self, index: Index) -> None:
        for path in sorted(self._segments.glob(f"*{SUFFIX}")):
            self._enter(index, path)

    def _enter(self, index: Index, path: Path) -> None:
        """Enters a file with all its undamaged records into the index; removes one without a valid header."""
        described = read_header(path)
        if described is None:
            log.warning("%s is damaged: removed.", path)
            path.unlink(missing_ok=True)
            return
        key, layout = described
        array = _number(index, key, layout)
        insert = "INSERT OR IGNORE INTO segments (array, file, owner, used) VALUES (?, ?, '', ?)"
        index.execute_many(insert, [(array, path.name, path.stat().st_mtime)])
        number = index.query("SELECT id FROM segments WHERE file = ?", path.name)[0][0]
        rows = [(array, digest, number, place) for place, digest in Segment(path, key, layout).proven()]
        index.execute_many("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", rows)


def _number(index: Index, key: ArrayKey, layout: Layout) -> int:
    """The number of an array in the index, created where there is none."""
    described = (_text(key), json.dumps(asdict(layout)))
    index.execute_many("INSERT OR IGNORE INTO arrays (key, layout) VALUES (?, ?)", [described])
    number: int = index.query("SELECT id FROM arrays WHERE key = ? AND layout = ?", *described)[0][0]
    return number


def _text(key: ArrayKey) -> str:
    return json.dumps(asdict(key), sort_keys=True)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"

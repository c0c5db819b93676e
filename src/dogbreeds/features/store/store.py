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
from types import TracebackType
from typing import Any

from filelock import FileLock

from dogbreeds.errors import CacheError
from dogbreeds.features.store.array import FeatureArray
from dogbreeds.features.store.artefacts import Artefacts
from dogbreeds.features.store.files import FileDigests
from dogbreeds.features.store.index import DamagedIndexError, Index, NewerIndexError
from dogbreeds.features.store.owners import Owners
from dogbreeds.features.store.segments import (
    SEGMENTS,
    SUFFIX,
    ArrayKey,
    Layout,
    Segment,
    read_header,
    size_of,
)

log = logging.getLogger(__name__)

#: What shows that a directory is a store.
INDEX = "index.sqlite"
# Files of an index: the database and what its write-ahead log needs.
_INDEX_FILES = (INDEX, f"{INDEX}-wal", f"{INDEX}-shm")
# By then whoever made a file has entered it into the index, or lost it.
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

    Files hold the features, an SQLite index says where. Any process may be killed at any moment: the store stays
    valid and loses at most the batch that was being computed. The directory must be on a local disk, because
    SQLite cannot lock reliably over a network.
    """

    def __init__(self, directory: Path, max_bytes: float) -> None:
        """Opens or creates a store.

        Args:
            directory: Its place, `cache.dir`.
            max_bytes: What it may occupy, `cache.max_gb`; features used longest ago make room for new ones.

        Raises:
            CacheError: The directory cannot be written, or a newer version made it.
        """
        directory = directory.expanduser()
        self.directory, self.max_bytes = directory, max_bytes
        self._segments = directory / SEGMENTS
        try:
            self._segments.mkdir(parents=True, exist_ok=True)
            self._owners = Owners(directory / "owners")
            with FileLock(directory / "index.lock"):
                self._index = self._open_index()
        except NewerIndexError:
            raise CacheError(
                f"cache.dir={directory} was written by a newer version: use another directory."
            ) from None
        except OSError as error:
            raise CacheError(
                f"cache.dir={directory} cannot be used ({error}). Give a directory that can be written."
            ) from error
        self.files = FileDigests(self._index)
        self.artefacts = Artefacts.of(directory)
        self._arrays: list[FeatureArray] = []

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets others know that this process computes no more."""
        for array in self._arrays:
            array.close()
        self._owners.close()
        self._index.close()

    def array(self, key: ArrayKey, layout: Layout) -> FeatureArray:
        """Returns the array of a key, new where there is none.

        Args:
            key: All that the features depend on.
            layout: Their shape and number type.
        """
        with self._index.transaction():
            number = _number(self._index, key, layout)
        array = FeatureArray(number, key, layout, self._index, self._owners, self._segments)
        self._arrays.append(array)
        return array

    def make_room(self, needed: int, keep: Collection[ArrayKey]) -> None:
        """Removes the features that were used longest ago, but none under the keys `keep`, until `needed` bytes fit.

        Raises:
            CacheError: They cannot fit, whatever is removed.
        """
        self.collect()
        if needed > self.max_bytes:
            raise CacheError(
                f"These features need {_gigabytes(needed)}, and cache.max_gb={self.max_bytes / 1e9:g} allows less. "
                "Raise cache.max_gb."
            )
        excess = self.occupied() + needed - self.max_bytes
        if excess > 0:
            self._evict(excess, keep, needed)
        free = shutil.disk_usage(self.directory).free
        if needed > free:
            raise CacheError(
                f"These features need {_gigabytes(needed)}, and the disk of cache.dir={self.directory} "
                f"has {_gigabytes(free)} left. Point cache.dir at another disk."
            )

    def occupied(self) -> int:
        """Returns the bytes of all features and artefacts on disk."""
        return sum(size_of(path) for path in self._segments.iterdir()) + self.artefacts.occupied()

    def usage(self) -> list[Usage]:
        """Returns what each array occupies, the one used last first."""
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
        """Removes the arrays that `keep` does not want, and files that nothing refers to.

        Returns:
            The photos whose features were removed, and the bytes that this freed.
        """
        before, photos = self.occupied(), 0
        for usage in self.usage():
            if keep(usage):
                continue
            statement = "SELECT id, file, owner FROM segments WHERE array = ?"
            photos += self._remove(self._unowned(self._index.query(statement, usage.number)))
        self.collect()
        return photos, before - self.occupied()

    def collect(self) -> None:
        """Removes segments without rows whose writer has ended, and takes in files that the index does not know."""
        statement = (
            "SELECT id, file, owner FROM segments WHERE NOT EXISTS (SELECT 1 FROM rows WHERE segment = segments.id)"
        )
        self._remove(self._unowned(self._index.query(statement)))
        known = {file for (file,) in self._index.query("SELECT file FROM segments")}
        for path in self._segments.iterdir():
            with contextlib.suppress(FileNotFoundError):
                # Another process may take it away meanwhile.
                if path.name not in known and path.stat().st_mtime < time.time() - _STRAY_SECONDS:
                    with self._index.transaction():
                        self._take_in(self._index, path)

    def _unowned(self, segments: list[tuple[Any, ...]]) -> list[tuple[int, str]]:
        """Of segments (number, file, owner), those that no living process writes to."""
        dead = self._owners.dead({owner for _, _, owner in segments})
        return [(number, file) for number, file, owner in segments if owner in dead]

    def _evict(self, excess: float, keep: Collection[ArrayKey], needed: int) -> None:
        kept = {_text(key) for key in keep}
        statement = "SELECT s.id, file, owner, key FROM segments s JOIN arrays ON arrays.id = array ORDER BY used"
        candidates = self._unowned([row[:3] for row in self._index.query(statement) if row[3] not in kept])
        sizes = {number: size_of(self._segments / file) for number, file in candidates}
        if sum(sizes.values()) + self.artefacts.occupied() < excess:
            raise CacheError(
                f"These features need {_gigabytes(needed)}, and features that are in use leave no room for "
                f"them in cache.max_gb={self.max_bytes / 1e9:g}. Raise cache.max_gb."
            )
        freed = 0
        for number, file in candidates:
            if freed >= excess:
                break
            self._remove([(number, file)])
            freed += sizes[number]
        freed += self.artefacts.evict(excess - freed)
        log.info("removed %s of features that were used longest ago (cache.max_gb)", _gigabytes(freed))

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
            return Index(path, self._take_in_all)
        except DamagedIndexError as error:
            log.warning("The index of cache.dir=%s is damaged (%s) and is made anew.", self.directory, error.reason)
            for name in _INDEX_FILES:
                (self.directory / name).unlink(missing_ok=True)
            return Index(path, self._take_in_all)

    def _take_in_all(self, index: Index) -> None:
        for path in sorted(self._segments.glob(f"*{SUFFIX}")):
            self._take_in(index, path)

    def _take_in(self, index: Index, path: Path) -> None:
        """Enters a file that the index does not know, with all its whole records; removes one that says nothing."""
        described = read_header(path)
        if described is None:
            log.warning("%s is damaged and is removed.", path)
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
    """The number of an array in the index, new where there is none."""
    described = (_text(key), json.dumps(asdict(layout)))
    index.execute_many("INSERT OR IGNORE INTO arrays (key, layout) VALUES (?, ?)", [described])
    number: int = index.query("SELECT id FROM arrays WHERE key = ? AND layout = ?", *described)[0][0]
    return number


def _text(key: ArrayKey) -> str:
    return json.dumps(asdict(key), sort_keys=True)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"

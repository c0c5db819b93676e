"""One array of the store: the features of any number of photos under one key."""

import logging
import threading
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from dogbreeds.features.store.index import Index, Owners
from dogbreeds.features.store.segments import SUFFIX, ArrayKey, Layout, Segment, SegmentWriter, StoredRows

log = logging.getLogger(__name__)

#: Where the features of a photo are: the number of a segment, and the position in it.
Place = tuple[int, int]


class FeatureArray:
    """Features of photos, found by the digest of a photo's bytes; safe with several writers and threads.

    To fill it: `claim` digests, compute them, `publish` them. Whatever happens in between, a photo is either
    published whole or missing, and the claims of a process end with the process.
    """

    def __init__(
        self, number: int, key: ArrayKey, layout: Layout, index: Index, owners: Owners, directory: Path
    ) -> None:
        """Called by `FeatureStore.array`."""
        self.key, self.layout = key, layout
        self._number, self._index, self._owners, self._directory = number, index, owners, directory
        self._mutex = threading.Lock()
        self._writer: SegmentWriter | None = None
        self._segment = 0

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Returns the digests that have no features yet, each once, in order."""
        found = self._places(_keys(digests))
        return [digest for digest in dict.fromkeys(digests) if bytes.fromhex(digest) not in found]

    def claim(self, digests: Sequence[str]) -> tuple[list[str], list[str]]:
        """Reserves photos; returns those that the caller now computes, and those that another process is computing.

        Photos in neither have features already.
        """
        keys = _keys(digests)
        own = self._owners.own
        with self._index.transaction():
            found = self._places(keys)
            statement = "SELECT photo, owner FROM claims WHERE array = ? AND photo IN ({keys})"
            owner_of = dict(self._index.query_many(statement, keys, self._number))
            mine = [key for key in keys if key not in found and owner_of.get(key, own) == own]
            insert = "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)"
            self._index.execute_many(insert, [(self._number, key, own) for key in mine])
        busy = [key for key in keys if key not in found and owner_of.get(key, own) != own]
        return [key.hex() for key in mine], [key.hex() for key in busy]

    def publish(self, digests: Sequence[str], features: np.ndarray) -> None:
        """Stores the features (N, *shape) of claimed photos and ends the claims.

        Raises:
            OSError: The disk is full or gone; nothing of this call is stored.
            ValueError: The features are not of the array's shape.
        """
        if not digests:
            return
        keys = [bytes.fromhex(digest) for digest in digests]
        with self._mutex:
            writer = self._open()
            try:
                first = writer.append(keys, features)
            except OSError:
                # The file now ends in a torn record: the next batch starts a new one.
                writer.close()
                self._writer = None
                raise
            with self._index.transaction():
                rows = [(self._number, key, self._segment, first + place) for place, key in enumerate(keys)]
                self._index.execute_many("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", rows)
                self._end_claims(keys)

    def release(self, digests: Sequence[str]) -> None:
        """Ends the claims of photos that will not be computed."""
        with self._index.transaction():
            self._end_claims(_keys(digests))

    def release_dead(self) -> None:
        """Ends the claims of processes that have ended."""
        owners = {name for (name,) in self._index.query("SELECT DISTINCT owner FROM claims")}
        dead = self._owners.dead(owners)
        self._index.execute_many("DELETE FROM claims WHERE owner = ?", [(name,) for name in dead])

    def read(self, digests: Sequence[str]) -> StoredRows | None:
        """Returns the features of photos, after checking every record; None when some are missing or damaged.

        The damaged ones are forgotten, so `missing` lists them.
        """
        keys = [bytes.fromhex(digest) for digest in digests]
        places = self._places(_keys(digests))
        segments = self._open_segments({number for number, _ in places.values()})
        damaged = {
            key: (number, position)
            for key, (number, position) in places.items()
            if number not in segments or not segments[number].proves(position, key)
        }
        self._forget(damaged)
        if damaged or not places.keys() >= set(keys):
            return None
        now = time.time()
        self._index.execute_many("UPDATE segments SET used = ? WHERE id = ?", [(now, number) for number in segments])
        order = {number: place for place, number in enumerate(segments)}
        rows = [(order[places[key][0]], places[key][1]) for key in keys]
        return StoredRows(self.layout, list(segments.values()), rows, digests)

    def _places(self, keys: Sequence[bytes]) -> dict[bytes, Place]:
        statement = "SELECT photo, segment, position FROM rows WHERE array = ? AND photo IN ({keys})"
        return {row[0]: (row[1], row[2]) for row in self._index.query_many(statement, keys, self._number)}

    def _open_segments(self, numbers: Collection[int]) -> dict[int, Segment]:
        statement = "SELECT id, file FROM segments WHERE id IN ({keys})"
        opened = {}
        for number, file in self._index.query_many(statement, sorted(numbers)):
            try:
                opened[number] = Segment(self._directory / file, self.key, self.layout)
            except (FileNotFoundError, ValueError) as error:
                # Damaged, or evicted since the index was asked.
                log.debug("%s", error)
        return opened

    def _forget(self, damaged: Mapping[bytes, Place]) -> None:
        if not damaged:
            return
        log.warning("%d stored features are damaged and will be recomputed.", len(damaged))
        delete = "DELETE FROM rows WHERE array = ? AND photo = ? AND segment = ?"
        with self._index.transaction():
            # Another process may have stored a photo anew in another segment meanwhile.
            self._index.execute_many(delete, [(self._number, key, number) for key, (number, _) in damaged.items()])

    def _open(self) -> SegmentWriter:
        if self._writer is None:
            path = self._directory / f"{uuid.uuid4().hex}{SUFFIX}"
            insert = "INSERT INTO segments (array, file, owner, used) VALUES (?, ?, ?, ?) RETURNING id"
            row = (self._number, path.name, self._owners.own, time.time())
            with self._index.transaction():
                self._segment = self._index.query(insert, *row)[0][0]
            self._writer = SegmentWriter(path, self.key, self.layout)
        return self._writer

    def _end_claims(self, keys: Sequence[bytes]) -> None:
        delete = "DELETE FROM claims WHERE array = ? AND photo = ? AND owner = ?"
        self._index.execute_many(delete, [(self._number, key, self._owners.own) for key in keys])

    def close(self) -> None:
        """Closes the file that this process appends to; the next batch would start another."""
        with self._mutex:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
                self._index.query("UPDATE segments SET owner = '' WHERE id = ?", self._segment)


def _keys(digests: Sequence[str]) -> list[bytes]:
    """The digests as the index has them, each once, in order."""
    return [bytes.fromhex(digest) for digest in dict.fromkeys(digests)]

"""One array of the store: the features of any number of photos under one key."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dogbreeds.features.store.index import Index
from dogbreeds.features.store.owners import Owners
from dogbreeds.features.store.segments import SUFFIX, ArrayKey, Layout, Segment, SegmentWriter, StoredRows

log = logging.getLogger(__name__)


class FeatureArray:
    """Features of photos, found by the digest of a photo's bytes; safe with several writers and threads.

    To fill it: `claim` photos, compute them, `publish` them. Whatever happens in between, a photo is either
    published whole or missing, and claims of a process end with the process.
    """

    def __init__(
        self, number: int, key: ArrayKey, layout: Layout, index: Index, owners: Owners, directory: Path
    ) -> None:
        """Belongs to a store, whose method `array` makes it."""
        self.key, self.layout = key, layout
        self._number, self._index, self._owners, self._directory = number, index, owners, directory
        self._mutex = threading.Lock()
        self._writer: SegmentWriter | None = None
        self._segment = 0

    def missing(self, photos: Sequence[str]) -> list[str]:
        """Returns the digests that have no features yet, each once, in order."""
        unique = list(dict.fromkeys(photos))
        found = {photo for photo, _, _ in self._places(unique)}
        return [photo for photo in unique if bytes.fromhex(photo) not in found]

    def claim(self, photos: Sequence[str]) -> tuple[list[str], list[str]]:
        """Reserves photos for this process.

        Returns:
            Those that the caller now computes, and those that another process is computing. Photos in neither
            have features already.

        Raises:
            OSError: The disk is full or gone.
        """
        digests = [bytes.fromhex(photo) for photo in dict.fromkeys(photos)]
        own = self._owners.own
        with self._index.transaction():
            found = {photo for photo, _, _ in self._places(photos)}
            statement = "SELECT photo, owner FROM claims WHERE array = ? AND photo IN ({keys})"
            owner_of = dict(self._index.query_many(statement, digests, self._number))
            mine = [photo for photo in digests if photo not in found and owner_of.get(photo, own) == own]
            insert = "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)"
            self._index.execute_many(insert, [(self._number, photo, own) for photo in mine])
        busy = [photo for photo in digests if photo not in found and owner_of.get(photo, own) != own]
        return [photo.hex() for photo in mine], [photo.hex() for photo in busy]

    def publish(self, photos: Sequence[str], features: np.ndarray) -> None:
        """Stores the features (N, *shape) of claimed photos and ends the claims.

        Raises:
            OSError: The disk is full or gone; nothing of this call is stored.
            ValueError: The features are not of the array's shape.
        """
        if not photos:
            return
        digests = [bytes.fromhex(photo) for photo in photos]
        with self._mutex:
            writer = self._open()
            try:
                first = writer.append(digests, features)
            except OSError:
                # What was written ends in a torn record: the next batch starts a new file.
                writer.close()
                self._writer = None
                raise
            with self._index.transaction():
                rows = [(self._number, photo, self._segment, first + place) for place, photo in enumerate(digests)]
                self._index.execute_many("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", rows)
                self._end_claims(digests)

    def release(self, photos: Sequence[str]) -> None:
        """Ends the claims of photos that will not be computed."""
        with self._index.transaction():
            self._end_claims([bytes.fromhex(photo) for photo in photos])

    def release_dead(self) -> None:
        """Ends the claims of processes that have ended."""
        owners = {name for (name,) in self._index.query("SELECT DISTINCT owner FROM claims")}
        dead = self._owners.dead(owners)
        self._index.execute_many("DELETE FROM claims WHERE owner = ?", [(name,) for name in dead])

    def read(self, photos: Sequence[str]) -> StoredRows | None:
        """Returns the features of photos, after checking every record.

        Returns:
            None when some are missing or damaged; the damaged ones are forgotten, so `missing` lists them.

        Raises:
            OSError: Files are there and cannot be opened.
        """
        places = {photo: (segment, position) for photo, segment, position in self._places(photos)}
        numbers = sorted({segment for segment, _ in places.values()})
        segments = self._open_segments(numbers)
        damaged = [
            photo
            for photo, (number, position) in places.items()
            if number not in segments or not segments[number].proves(position, photo)
        ]
        if damaged:
            log.warning("%d stored features are damaged and are computed again.", len(damaged))
            delete = "DELETE FROM rows WHERE array = ? AND photo = ? AND segment = ?"
            with self._index.transaction():
                self._index.execute_many(delete, [(self._number, photo, places[photo][0]) for photo in damaged])
        wanted = [bytes.fromhex(photo) for photo in photos]
        if damaged or any(photo not in places for photo in wanted):
            return None
        now = time.time()
        self._index.execute_many("UPDATE segments SET used = ? WHERE id = ?", [(now, number) for number in numbers])
        order = {number: place for place, number in enumerate(numbers)}
        rows = [(order[places[photo][0]], places[photo][1]) for photo in wanted]
        return StoredRows(self.layout, [segments[number] for number in numbers], rows)

    def _places(self, photos: Sequence[str]) -> list[tuple[bytes, int, int]]:
        digests = [bytes.fromhex(photo) for photo in dict.fromkeys(photos)]
        statement = "SELECT photo, segment, position FROM rows WHERE array = ? AND photo IN ({keys})"
        return [(row[0], row[1], row[2]) for row in self._index.query_many(statement, digests, self._number)]

    def _open_segments(self, numbers: Sequence[int]) -> dict[int, Segment]:
        opened = {}
        for number, file in self._index.query_many("SELECT id, file FROM segments WHERE id IN ({keys})", numbers):
            try:
                opened[number] = Segment(self._directory / file, self.key, self.layout)
            except (FileNotFoundError, ValueError) as error:
                # Removed to make room since it was looked up, or damaged.
                log.debug("%s", error)
        return opened

    def _open(self) -> SegmentWriter:
        if self._writer is None:
            path = self._directory / f"{uuid.uuid4().hex}{SUFFIX}"
            insert = "INSERT INTO segments (array, file, owner, used) VALUES (?, ?, ?, ?) RETURNING id"
            row = (self._number, path.name, self._owners.own, time.time())
            with self._index.transaction():
                self._segment = self._index.query(insert, *row)[0][0]
            self._writer = SegmentWriter(path, self.key, self.layout)
        return self._writer

    def _end_claims(self, digests: Sequence[bytes]) -> None:
        delete = "DELETE FROM claims WHERE array = ? AND photo = ? AND owner = ?"
        self._index.execute_many(delete, [(self._number, photo, self._owners.own) for photo in digests])

    def close(self) -> None:
        """Closes the file that this process appends to; the next batch would start another."""
        with self._mutex:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
                self._index.query("UPDATE segments SET owner = '' WHERE id = ?", self._segment)

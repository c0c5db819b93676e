"""Digests of files, read again only when a file has changed, and the reason why some are not images."""

import hashlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from dogbreeds.data.images import UnreadableImageError, check, decoders
from dogbreeds.features.store.index import Index

# A file that changed this shortly before it was read may change again without its times showing it.
_SETTLED_NANOSECONDS = 2_000_000_000
# Files that are looked at before what was found is written down.
_AT_ONCE = 10_000


class _Content(NamedTuple):
    """A file's digest, the reason why it is not an image ('' when it may be one), and whether reading it failed."""

    digest: str
    reason: str
    failed: bool


class FileDigests:
    """Remembers the SHA-256 of files by path, size, times and inode, as git does, in the index of a store."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def examine(self, paths: Sequence[Path], workers: int | None) -> tuple[dict[Path, str], dict[Path, str]]:
        """Returns the digests of files, and for those known not to be images the reason.

        A file that is new or has changed is read once and its structure checked, by `workers` threads: None is one
        per core, 0 is none.
        """
        digests: dict[Path, str] = {}
        reasons: dict[Path, str] = {}
        for start in range(0, len(paths), _AT_ONCE):
            found, unreadable = self._examine(paths[start : start + _AT_ONCE], workers)
            digests |= found
            reasons |= unreadable
        return digests, reasons

    def _examine(self, paths: Sequence[Path], workers: int | None) -> tuple[dict[Path, str], dict[Path, str]]:
        names = {path: os.fsencode(path.absolute()) for path in paths}
        statement = "SELECT path, state, photo FROM files WHERE path IN ({keys})"
        known = {row[0]: row[1:] for row in self._index.query_many(statement, list(names.values()))}
        states = {path: _state(path) for path in paths}
        digests = {
            path: known[names[path]][1].hex()
            for path in paths
            if names[path] in known and known[names[path]][0] == states[path][0]
        }
        unknown = [path for path in paths if path not in digests]
        found = dict(zip(unknown, _read_all(unknown, workers), strict=True))
        digests |= {path: content.digest for path, content in found.items()}
        readable = {path: content for path, content in found.items() if not content.failed}
        self.remember_unreadable({one.digest: one.reason for one in readable.values() if one.reason})
        settled = time.time_ns() - _SETTLED_NANOSECONDS
        rows = []
        for path, content in readable.items():
            state, changed = states[path]
            # It may have been written to while it was read.
            if changed < settled and states[path] == _state(path):
                rows.append((names[path], state, bytes.fromhex(content.digest)))
        with self._index.transaction():
            self._index.execute_many("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
        reasons = self.unreadable(digests.values()) | {one.digest: one.reason for one in found.values() if one.failed}
        return digests, {path: reasons[digest] for path, digest in digests.items() if digest in reasons}

    def unreadable(self, digests: Iterable[str]) -> dict[str, str]:
        """Returns those of the digests that the decoders here cannot decode, with the reason."""
        keys = [bytes.fromhex(digest) for digest in dict.fromkeys(digests)]
        statement = "SELECT photo, reason FROM unreadable WHERE decoder = ? AND photo IN ({keys})"
        found = self._index.query_many(statement, keys, decoders())
        return {digest.hex(): reason for digest, reason in found}

    def remember_unreadable(self, reasons: Mapping[str, str]) -> None:
        here = decoders()
        rows = [(bytes.fromhex(digest), here, reason) for digest, reason in reasons.items()]
        with self._index.transaction():
            self._index.execute_many("INSERT OR REPLACE INTO unreadable VALUES (?, ?, ?)", rows)


def _state(path: Path) -> tuple[str, int]:
    """Returns size, times and inode as text, and when the file last changed, in nanoseconds since 1970."""
    try:
        status = path.stat()
    except OSError:
        return "", 0
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}", changed


def _read_all(paths: Sequence[Path], workers: int | None) -> list[_Content]:
    if workers == 0:
        return [_read(path) for path in paths]
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return list(pool.map(_read, paths))


def _read(path: Path) -> _Content:
    try:
        content = path.read_bytes()
    except OSError as error:
        # Without bytes, its path has to identify it.
        name = hashlib.sha256(os.fsencode(path)).hexdigest()
        return _Content(name, error.strerror or type(error).__name__, failed=True)
    digest = hashlib.sha256(content).hexdigest()
    try:
        check(content)
    except UnreadableImageError as error:
        return _Content(digest, str(error), failed=False)
    return _Content(digest, "", failed=False)

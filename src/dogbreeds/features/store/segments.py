"""The files of the feature store: self-checking records, read by memory mapping.

A segment is a header and records of one length. A record holds the digest of its photo, the features, and a
checksum over both, so that a truncated, overwritten or mixed-up file is noticed row by row, and the index of the
store can be rebuilt from its segments alone. Records never change once they are published.
"""

from __future__ import annotations

import json
import mmap
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

#: The directory of the segments in a store, and the suffix of their names.
SEGMENTS, SUFFIX = "segments", ".features"
_MAGIC = b"dogbreeds features 1\n"
_HEADER_BYTES = 4096
_MAPPED_FROM = 1 << 20
_CHECKSUM_DIGITS = 8
_CHECKSUM_BYTES = 4
_DIGEST_BYTES = 32
#: Where the features start, and what the length of a record is a multiple of: aligned for any number type.
_ALIGNMENT = 8
_PAYLOAD = -(-(_CHECKSUM_BYTES + _DIGEST_BYTES) // _ALIGNMENT) * _ALIGNMENT


@dataclass(frozen=True)
class ArrayKey:
    """Everything besides the photo that features depend on: one array for each key.

    Attributes:
        trunk: Name of the backbone and the cut, for display.
        weights: SHA-256 of the trunk's weights.
        transform: The evaluation transform, as text.
        engine: Name of the engine and its precision: engines differ in the last bits.
        view: `evaluation`, or the augmentation and the number of the view.
    """

    trunk: str
    weights: str
    transform: str
    engine: str
    view: str


@dataclass(frozen=True)
class Layout:
    """Shape of one photo's features and their number type, `float32` or `float16`."""

    shape: tuple[int, ...]
    kind: str

    @property
    def record(self) -> np.dtype[np.void]:
        """The NumPy type of a record."""
        payload = int(np.prod(self.shape)) * np.dtype(self.kind).itemsize
        names, offsets = ["checksum", "digest", "features"], [0, _CHECKSUM_BYTES, _PAYLOAD]
        formats = ["<u4", f"V{_DIGEST_BYTES}", (np.dtype(self.kind).newbyteorder("<"), self.shape)]
        size = _PAYLOAD + -(-payload // _ALIGNMENT) * _ALIGNMENT
        return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


class SegmentWriter:
    """Appends records to a new file of its own."""

    def __init__(self, path: Path, key: ArrayKey, layout: Layout) -> None:
        self.path, self.layout = path, layout
        self._count = 0
        header = _header(key, layout)
        self._file = path.open("xb", buffering=0)
        try:
            self._write(header)
        except OSError:
            self._file.close()
            raise

    def append(self, digests: Sequence[bytes], features: np.ndarray) -> int:
        """Writes one record per photo and returns the position of the first.

        Raises:
            OSError: The disk is full; the file then ends in a torn record and takes no more.
            ValueError: The features are not of the layout.
        """
        if features.shape != (len(digests), *self.layout.shape):
            raise ValueError(f"{len(digests)} photos with features of shape {self.layout.shape}, not {features.shape}")
        records = np.zeros(len(digests), self.layout.record)
        records["digest"] = np.frombuffer(b"".join(digests), f"V{_DIGEST_BYTES}")
        records["features"] = features
        raw = records.view(np.uint8).reshape(len(digests), -1)
        records["checksum"] = [zlib.crc32(row[_CHECKSUM_BYTES:].data) for row in raw]
        self._write(raw.tobytes())
        first = self._count
        self._count += len(digests)
        return first

    def _write(self, content: bytes) -> None:
        remaining = memoryview(content)
        while remaining:
            remaining = remaining[self._file.write(remaining) :]

    def close(self) -> None:
        self._file.close()


class Segment:
    """A published file, mapped into memory."""

    def __init__(self, path: Path, key: ArrayKey, layout: Layout) -> None:
        """Maps as many whole records as the file holds.

        Raises:
            OSError: The file is gone.
            ValueError: It is cut off, or holds the features of another key.
        """
        self.path = path
        mapped = _content(path)
        if mapped[:_HEADER_BYTES] != _header(key, layout):
            raise ValueError(f"{path} is cut off, or holds other features than it should")
        length = layout.record.itemsize
        self.count = (len(mapped) - _HEADER_BYTES) // length
        self._raw = memoryview(mapped)[_HEADER_BYTES:]
        self.records = np.frombuffer(mapped, layout.record, self.count, _HEADER_BYTES)

    def proves(self, position: int, digest: bytes) -> bool:
        """Returns whether the record at a position is undamaged and that of this photo."""
        if position >= self.count:
            return False
        # Without NumPy, whose views of a record take as long as its checksum.
        record = self._raw[position * self.records.itemsize : (position + 1) * self.records.itemsize]
        checksum = int.from_bytes(record[:_CHECKSUM_BYTES], "little")
        return checksum == zlib.crc32(record[_CHECKSUM_BYTES:]) and self.digest(position) == digest

    def digest(self, position: int) -> bytes:
        start = position * self.records.itemsize + _CHECKSUM_BYTES
        return self._raw[start : start + _DIGEST_BYTES].tobytes()

    def proven(self) -> Iterator[tuple[int, bytes]]:
        """Yields position and digest of every undamaged record."""
        for position in range(self.count):
            digest = self.digest(position)
            if self.proves(position, digest):
                yield position, digest


def _header(key: ArrayKey, layout: Layout) -> bytes:
    described = json.dumps({"key": asdict(key), "layout": asdict(layout)}, sort_keys=True).encode()
    header = _MAGIC + f"{zlib.crc32(described):08x} ".encode() + described
    if len(header) > _HEADER_BYTES:
        raise ValueError(f"The description of the features does not fit into {_HEADER_BYTES} bytes: {key}")
    return header.ljust(_HEADER_BYTES, b"\0")


def _content(path: Path) -> bytes | mmap.mmap:
    with path.open("rb") as file:
        if size_of(path) < _MAPPED_FROM:
            # A mapping keeps a file descriptor, and a process has few of them: small files are read.
            return file.read()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read_header(path: Path) -> tuple[ArrayKey, Layout] | None:
    """Returns key and layout of a segment, or None where its header is damaged."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    try:
        described = json.loads(header[len(_MAGIC) + _CHECKSUM_DIGITS + 1 :].rstrip(b"\0"))
        key = ArrayKey(**described["key"])
        layout = Layout(tuple(described["layout"]["shape"]), described["layout"]["kind"])
        # Written again, it must be the same to the last byte, the checksum included.
        return (key, layout) if header == _header(key, layout) else None
    except (ValueError, KeyError, TypeError):
        return None


class StoredRows:
    """Features of a sequence of photos, read from their segments on access."""

    def __init__(
        self,
        layout: Layout,
        segments: Sequence[Segment],
        places: Sequence[tuple[int, int]] | np.ndarray,
        digests: Sequence[str],
    ) -> None:
        """Takes for each photo its place (N, 2): the index of its segment and the position in it."""
        self.layout, self.digests, self._segments = layout, list(digests), segments
        self._places = np.array(places, dtype=np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, positions: Tensor) -> Tensor:
        """Returns float32 features of the photos at positions (N,)."""
        places = self._places[positions.cpu().numpy()]
        # Memory of torch's, aligned as it likes it: the last bits of what is computed of it depend on that.
        features = torch.empty((len(places), *self.layout.shape))
        result = features.numpy()
        for number in np.unique(places[:, 0]):
            chosen = np.flatnonzero(places[:, 0] == number)
            result[chosen] = self._segments[number].records["features"][places[chosen, 1]]
        return features

    def tensor(self) -> Tensor:
        return self[torch.arange(len(self))]

    def of(self, digests: Sequence[str]) -> StoredRows:
        """Returns the rows of some of the photos, still in their files."""
        position_of = {digest: position for position, digest in enumerate(self.digests)}
        positions = [position_of[digest] for digest in digests]
        return StoredRows(self.layout, self._segments, self._places[positions], digests)


def size_of(path: Path) -> int:
    """Returns the bytes of a file, 0 where it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

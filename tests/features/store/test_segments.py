"""A record that is not exactly what was written for its photo is noticed."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dogbreeds.features.store.segments import Layout, Segment, SegmentWriter, StoredRows, read_header, size_of
from tests.features.store.filling import FLAT, KEY, digests, features

HEXES = digests(6)
PHOTOS = [bytes.fromhex(digest) for digest in HEXES]


def write(path: Path, photos: Sequence[bytes] = PHOTOS, layout: Layout = FLAT) -> np.ndarray:
    values = features([photo.hex() for photo in photos], layout)
    writer = SegmentWriter(path, KEY, layout)
    writer.append(photos, values)
    writer.close()
    return values


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.features"


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 3), (1,), ()])
def test_what_was_written_is_read(path: Path, shape: tuple[int, ...], kind: str) -> None:
    layout = Layout(shape, kind)
    values = write(path, layout=layout)
    segment = Segment(path, KEY, layout)
    assert segment.records["features"].dtype == kind
    assert np.array_equal(segment.records["features"], values)
    assert list(segment.proven()) == list(enumerate(PHOTOS))
    assert read_header(path) == (KEY, layout)


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(1,), (5,), (8,), (2, 3, 3)])
def test_features_of_every_record_are_aligned(shape: tuple[int, ...], kind: str) -> None:
    record = Layout(shape, kind).record
    assert (record.itemsize % 8, record.fields["features"][1] % 8) == (0, 0)


def test_batches_follow_each_other(path: Path) -> None:
    values = features([photo.hex() for photo in PHOTOS])
    writer = SegmentWriter(path, KEY, FLAT)
    assert writer.append(PHOTOS[:4], values[:4]) == 0
    early = Segment(path, KEY, FLAT)
    assert writer.append(PHOTOS[4:], values[4:]) == 4
    writer.close()
    assert (early.count, Segment(path, KEY, FLAT).count) == (4, 6)
    assert np.array_equal(Segment(path, KEY, FLAT).records["features"], values)


def test_segment_without_records(path: Path) -> None:
    SegmentWriter(path, KEY, FLAT).close()
    segment = Segment(path, KEY, FLAT)
    assert (segment.count, list(segment.proven()), segment.proves(0, PHOTOS[0])) == (0, [], False)


def test_record_proves_only_its_own_photo(path: Path) -> None:
    write(path)
    segment = Segment(path, KEY, FLAT)
    assert [segment.proves(2, photo) for photo in PHOTOS] == [False, False, True, False, False, False]
    assert not segment.proves(len(PHOTOS), PHOTOS[0])


def test_every_byte_of_a_record_is_checked(path: Path) -> None:
    write(path)
    length = FLAT.record.itemsize
    start = path.stat().st_size - 4 * length
    for place in range(start, start + length):
        flip(path, place)
        assert [position for position, _ in Segment(path, KEY, FLAT).proven()] == [0, 1, 3, 4, 5], place
        flip(path, place)
    assert len(list(Segment(path, KEY, FLAT).proven())) == 6


def test_torn_record_at_the_end(path: Path) -> None:
    write(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert [position for position, _ in Segment(path, KEY, FLAT).proven()] == [0, 1, 2, 3, 4]


def test_record_of_zeros_is_none(path: Path) -> None:
    SegmentWriter(path, KEY, FLAT).close()
    with path.open("ab") as file:
        file.write(bytes(3 * FLAT.record.itemsize))
    assert list(Segment(path, KEY, FLAT).proven()) == []


@pytest.mark.parametrize("length", [0, 1, 4095])
def test_file_shorter_than_a_header(path: Path, length: int) -> None:
    write(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"cut off|empty file"):
        Segment(path, KEY, FLAT)


def test_file_that_is_gone(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Segment(path, KEY, FLAT)
    assert size_of(path) == 0


def test_mapped_features_outlive_their_file(path: Path) -> None:
    values = write(path)
    segment = Segment(path, KEY, FLAT)
    path.unlink()
    assert np.array_equal(segment.records["features"], values)


@pytest.mark.parametrize(
    "content",
    [b"", b"dogbreeds", b"something else\n{}", b"dogbreeds features 1\nno JSON", b"dogbreeds features 1\n[1, 2]"],
)
def test_other_files_have_no_header(path: Path, content: bytes) -> None:
    path.write_bytes(content.ljust(5000, b"\0"))
    assert read_header(path) is None


def test_header_of_another_key_field_is_none(path: Path) -> None:
    write(path)
    path.write_bytes(path.read_bytes().replace(b'"view"', b'"vieW"'))
    assert read_header(path) is None


def test_key_that_does_not_fit_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit into 4096 bytes"):
        SegmentWriter(path, replace(KEY, transform="x" * 4096), FLAT)
    assert not path.exists()


def test_existing_file_is_never_overwritten(path: Path) -> None:
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        SegmentWriter(path, KEY, FLAT)
    assert path.read_bytes() == b"precious"


def test_file_whose_header_cannot_be_written_is_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(writer: SegmentWriter, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SegmentWriter, "_write", full)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(OSError, match="No space left"):
            SegmentWriter(path, KEY, FLAT)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


@pytest.fixture
def rows(tmp_path: Path) -> StoredRows:
    """Photos 0 to 5, of which the odd ones lie in another file, in the opposite order."""
    layout = Layout((2, 3, 3), "float16")
    write(tmp_path / "even", PHOTOS[::2], layout)
    write(tmp_path / "odd", PHOTOS[5::-2], layout)
    segments = [Segment(tmp_path / "even", KEY, layout), Segment(tmp_path / "odd", KEY, layout)]
    return StoredRows(layout, segments, [(0, 0), (1, 2), (0, 1), (1, 1), (0, 2), (1, 0)], HEXES)


def test_rows_come_from_several_files(rows: StoredRows) -> None:
    wanted = torch.from_numpy(features(HEXES, rows.layout)).float()
    assert len(rows) == 6
    assert rows.tensor().dtype == torch.float32
    assert torch.equal(rows.tensor(), wanted)
    positions = torch.tensor([5, 0, 0, 3, 5])
    assert torch.equal(rows[positions], wanted[positions])
    assert rows[torch.arange(0)].shape == (0, 2, 3, 3)


def test_rows_of_some_photos(rows: StoredRows) -> None:
    chosen = rows.of([HEXES[place] for place in (4, 1, 1, 0)])
    assert len(chosen) == 4
    assert torch.equal(chosen.tensor(), rows.tensor()[[4, 1, 1, 0]])
    assert torch.equal(chosen.of([HEXES[0], HEXES[1]])[torch.tensor([1])], rows.tensor()[[1]])
    assert rows.of([]).tensor().shape == (0, 2, 3, 3)


def test_gathered_rows_may_be_written_to(rows: StoredRows) -> None:
    before = rows.tensor()
    rows.tensor().zero_()
    assert torch.equal(rows.tensor(), before)

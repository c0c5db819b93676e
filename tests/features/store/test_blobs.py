"""Blobs come back byte for byte or not at all."""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dogbreeds.features.store.blobs import BlobCache

SIZE = 32


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def blobs(directory: Path) -> BlobCache:
    return BlobCache(directory)


@pytest.mark.parametrize("content", [b"", b"network", bytes(range(256)) * 1000])
def test_kept_bytes_come_back(blobs: BlobCache, directory: Path, content: bytes) -> None:
    blobs.put("trunk-1.0_fp32.xml", content)
    assert blobs.get("trunk-1.0_fp32.xml") == content
    assert BlobCache(directory).get("trunk-1.0_fp32.xml") == content
    assert blobs.occupied() == SIZE + len(content)


def test_directory_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("A file.")
    blobs = BlobCache(tmp_path / "file" / "artefacts")
    blobs.put("name", b"content")
    assert "is not kept for later runs" in caplog.text
    assert blobs.get("name") is None
    assert blobs.occupied() == blobs.evict(1) == blobs.prune(1e12) == 0


def test_unknown_name_has_nothing(blobs: BlobCache) -> None:
    assert blobs.get("unknown") is None


def test_later_bytes_replace_earlier_ones(blobs: BlobCache, directory: Path) -> None:
    blobs.put("name", b"earlier and longer")
    blobs.put("name", b"later")
    blobs.put("other", b"other")
    assert (blobs.get("name"), blobs.get("other")) == (b"later", b"other")
    assert names(directory) == ["name", "other"]


@pytest.mark.parametrize("damage", ["flipped content", "flipped digest", "cut", "cut in the digest", "longer", "empty"])
def test_damaged_file_is_removed(
    blobs: BlobCache, directory: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    blobs.put("name", b"content")
    blobs.put("other", b"other")
    whole = (directory / "name").read_bytes()
    damaged = {
        "flipped content": whole[:-1] + bytes([whole[-1] ^ 1]),
        "flipped digest": bytes([whole[0] ^ 1]) + whole[1:],
        "cut": whole[:-1],
        "cut in the digest": whole[:10],
        "longer": whole + b"\0",
        "empty": b"",
    }
    (directory / "name").write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING):
        assert blobs.get("name") is None
    assert "name is damaged" in caplog.text
    assert names(directory) == ["other"]
    blobs.put("name", b"content")
    assert blobs.get("name") == b"content"


@pytest.mark.parametrize("name", ["", "a/b", "../outside", "/etc/name", "a b", "name\n", "a\0b", ".", ".."])
def test_bad_name_is_refused(blobs: BlobCache, directory: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a file name"):
        blobs.put(name, b"content")
    with pytest.raises(ValueError, match="cannot be a file name"):
        blobs.get(name)
    assert list(directory.iterdir()) == []


@pytest.fixture
def aged(blobs: BlobCache, directory: Path) -> BlobCache:
    """Three blobs of 42 bytes, used in the order b, a, c."""
    for name, hours in (("a", 2), ("b", 3), ("c", 1)):
        blobs.put(name, b"0123456789")
        moment = (directory / name).stat().st_mtime - hours * 3600
        os.utime(directory / name, (moment, moment))
    return blobs


@pytest.mark.parametrize(
    ("excess", "left", "freed"),
    [(-5, "abc", 0), (0, "abc", 0), (1, "ac", 42), (42, "ac", 42), (43, "c", 84), (126, "", 126), (9e9, "", 126)],
)
def test_longest_unused_go_first(aged: BlobCache, directory: Path, excess: float, left: str, freed: int) -> None:
    assert aged.evict(excess) == freed
    assert names(directory) == list(left)
    assert aged.occupied() == 126 - freed


@pytest.mark.parametrize(("hours", "left", "freed"), [(0, "", 126), (1.5, "c", 84), (2.5, "ac", 42), (9, "abc", 0)])
def test_old_ones_are_pruned(aged: BlobCache, directory: Path, hours: float, left: str, freed: int) -> None:
    assert aged.prune(time.time() - hours * 3600) == freed
    assert names(directory) == list(left)


@pytest.mark.parametrize("use", [lambda blobs: blobs.get("b"), lambda blobs: blobs.put("b", b"new")])
def test_reading_and_writing_are_use(aged: BlobCache, directory: Path, use: Callable[[BlobCache], object]) -> None:
    use(aged)
    aged.evict(43)
    assert names(directory) == ["b"]


USES: dict[str, tuple[Callable[[BlobCache], int], int]] = {
    "occupied": (lambda blobs: blobs.occupied(), 84),
    "evict": (lambda blobs: blobs.evict(42), 42),
    "prune": (lambda blobs: blobs.prune(time.time() - 5400), 42),
}


@pytest.mark.parametrize("use", USES)
def test_others_may_remove_files_meanwhile(
    aged: BlobCache, directory: Path, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    iterate = Path.iterdir

    def others_are_faster(path: Path) -> Iterator[Path]:
        found = list(iterate(path))
        (directory / "b").unlink(missing_ok=True)
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", others_are_faster)
    function, size = USES[use]
    assert function(aged) == size
    assert (directory / "c").exists()


def test_eviction_spares_what_is_being_written(
    blobs: BlobCache, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def evicted_before(path: Path, target: Path) -> Path:
        BlobCache(directory).evict(1e9)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", evicted_before)
    blobs.put("name", b"content")
    assert blobs.get("name") == b"content"


def test_full_disk_leaves_what_was_there(blobs: BlobCache, directory: Path) -> None:
    blobs.put("name", b"content")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        blobs.put("name", bytes(2_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert blobs.get("name") == b"content"
    assert names(directory) == ["name"]

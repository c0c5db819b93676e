"""The store opens whatever was done to it, and keeps to its limit."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dogbreeds.errors import CacheError
from dogbreeds.features.store.segments import ArrayKey
from dogbreeds.features.store.store import FeatureStore
from tests.features.store.filling import (
    CONTEXT,
    FLAT,
    KEY,
    PATIENCE,
    OpenStore,
    digests,
    features,
    is_served,
    only_segment,
    open_and_die,
    open_as_nobody,
    publish,
    rebuild_and_die,
    ruin_index,
    started,
)

PHOTOS = digests(30)
KEYS = [replace(KEY, view=f"augmented {number}") for number in range(3)]


def fill(open_store: OpenStore, *keys: ArrayKey) -> None:
    """Each key's array is filled by a process of its own, which has ended."""
    for key in keys:
        with open_store() as store:
            publish(store.array(key, FLAT), PHOTOS)


def held(store: FeatureStore, *keys: ArrayKey) -> list[bool]:
    """Says of each key whether all features are served; some of them would be an error."""
    arrays = [store.array(key, FLAT) for key in keys]
    assert all(array.missing(PHOTOS) in ([], PHOTOS) for array in arrays)
    return [not array.missing(PHOTOS) and is_served(array, PHOTOS) for array in arrays]


def test_store_is_made_where_there_is_none(tmp_path: Path) -> None:
    with FeatureStore(tmp_path / "deep" / "store", 1e9) as store:
        assert (store.occupied(), store.usage()) == (0, [])
        assert store.prune(lambda usage: False) == (0, 0)


def test_closed_twice(store: FeatureStore) -> None:
    publish(store.array(KEY, FLAT), PHOTOS)
    store.close()
    store.close()


# --- damage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["garbage", "half", "a page"])
def test_damaged_index_is_rebuilt(open_store: OpenStore, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    fill(open_store, *KEYS)
    with open_store() as store:
        index = store.directory / "index.sqlite"
    content = index.read_bytes()
    pages = [content[start : start + 4096] for start in range(0, len(content), 4096)]
    changed = {
        "garbage": b"garbage " * (len(content) // 8),
        "half": content[: len(content) // 2],
        # With the pages that claims have left.
        "a page": b"".join(b"\xa5" * 4096 if bytes.fromhex(PHOTOS[15]) in page else page for page in pages),
    }
    index.write_bytes(changed[damage])
    if damage == "a page":
        # Opening does not read it; whatever does says what to do, which helps.
        with open_store() as store, pytest.raises(CacheError, match="Run the same command again"):
            held(store, *KEYS)
    with caplog.at_level(logging.WARNING):
        store = open_store()
    assert "index of cache.dir" in caplog.text
    assert held(store, *KEYS) == [True] * 3
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert held(open_store(), *KEYS) == [True] * 3
    assert caplog.text == ""


@pytest.mark.parametrize("damage", ["deleted", "emptied"])
def test_index_that_is_gone_is_rebuilt(open_store: OpenStore, damage: str) -> None:
    fill(open_store, *KEYS)
    with open_store() as store:
        index = store.directory / "index.sqlite"
    index.unlink()
    if damage == "emptied":
        index.touch()
    assert held(open_store(), *KEYS) == [True] * 3


@pytest.mark.parametrize("place", [18, 47], ids=["version of the file", "version of the schema"])
def test_header_of_the_index_is_damaged(open_store: OpenStore, place: int) -> None:
    fill(open_store, KEY)
    with open_store() as store:
        index = store.directory / "index.sqlite"
    content = bytearray(index.read_bytes())
    content[place] ^= 255
    index.write_bytes(content)
    assert held(open_store(), KEY) == [True]


def test_index_with_another_schema_is_rebuilt(open_store: OpenStore) -> None:
    fill(open_store, KEY)
    with open_store() as store:
        index = store.directory / "index.sqlite"
    content = index.read_bytes()
    assert content.count(b"used REAL") == 1
    index.write_bytes(content.replace(b"used REAL", b"usad REAL"))
    assert held(open_store(), KEY) == [True]


def test_other_files_are_no_segments(open_store: OpenStore) -> None:
    fill(open_store, KEY)
    with open_store() as store:
        (store.directory / "segments" / "notes.features").write_text("Not a segment.")
        (store.directory / "segments" / "notes.txt").write_text("Not a segment.")
    ruin_index(store.directory)
    assert held(open_store(), KEY) == [True]


def damaged_header(open_store: OpenStore, old: bytes, new: bytes) -> None:
    with open_store() as store:
        publish(store.array(KEYS[1], FLAT), PHOTOS)
        path = only_segment(store)
    ruin_index(store.directory)
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def test_damaged_header_does_not_pass_for_another_key(open_store: OpenStore) -> None:
    damaged_header(open_store, b"augmented 1", b"augmented 0")
    array = open_store().array(KEYS[0], FLAT)
    assert array.missing(PHOTOS) == PHOTOS


@pytest.mark.parametrize(
    ("old", "new"), [(b"float32", b"float22"), (b"[5]", b"[-]"), (b"[5]", b"[4]"), (b'"view"', b'"wiew"')]
)
def test_damaged_header_does_not_keep_the_store_from_opening(open_store: OpenStore, old: bytes, new: bytes) -> None:
    damaged_header(open_store, old, new)
    array = open_store().array(KEYS[1], FLAT)
    publish(array, array.missing(PHOTOS))
    assert is_served(array, PHOTOS)


@pytest.mark.slow
@pytest.mark.parametrize("files", [0, 1, 2])
def test_killed_while_the_index_is_rebuilt(open_store: OpenStore, files: int) -> None:
    fill(open_store, *KEYS)
    with open_store() as store:
        pass
    ruin_index(store.directory)
    with started(rebuild_and_die, store.directory, files) as process:
        process.join(PATIENCE)
        assert process.exitcode == -9
    assert held(open_store(), *KEYS) == [True] * 3


@pytest.mark.parametrize("statements", [0, 1, 5, 9, 12])
def test_killed_while_the_store_is_made(open_store: OpenStore, tmp_path: Path, statements: int) -> None:
    with started(open_and_die, tmp_path / "store", statements) as process:
        process.join(PATIENCE)
        assert process.exitcode == -9
    fill(open_store, KEY)
    assert held(open_store(), KEY) == [True]


# --- directories that cannot be used --------------------------------------------------------------------------


def test_newer_version_is_refused(open_store: OpenStore) -> None:
    fill(open_store, KEY)
    with open_store() as store:
        pass
    index = sqlite3.connect(store.directory / "index.sqlite")
    index.execute("PRAGMA user_version = 2")
    index.close()
    with pytest.raises(CacheError, match="written by a newer version"):
        open_store()
    index = sqlite3.connect(store.directory / "index.sqlite")
    assert index.execute("SELECT COUNT(*) FROM rows").fetchone() == (30,)
    index.close()


@pytest.mark.parametrize("place", ["store", "store/segments", "store/owners"])
def test_file_in_the_place_of_a_directory(open_store: OpenStore, tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("A file.")
    with pytest.raises(CacheError, match="cannot be used"):
        open_store()
    assert (tmp_path / place).read_text() == "A file."


def test_directory_in_the_place_of_the_index(open_store: OpenStore, tmp_path: Path) -> None:
    (tmp_path / "store" / "index.sqlite").mkdir(parents=True)
    with pytest.raises(CacheError, match="cannot be used"):
        open_store()


def test_directory_that_cannot_be_made() -> None:
    with pytest.raises(CacheError, match="cannot be used"):
        FeatureStore(Path("/proc/dogbreeds/store"), 1e9)


@pytest.mark.parametrize("existing", [False, True])
def test_directory_that_cannot_be_written(existing: bool) -> None:
    # Not under tmp_path, which nobody but its owner may enter.
    directory = Path(os.path.realpath(os.environ.get("TMPDIR", "/tmp"))) / f"dogbreeds-{os.getpid()}-{time.time_ns()}"
    directory.mkdir()
    try:
        if existing:
            FeatureStore(directory, 1e9).close()
            for path in directory.rglob("*"):
                path.chmod(0o555 if path.is_dir() else 0o444)
        directory.chmod(0o555)
        receiver, sender = CONTEXT.Pipe(duplex=False)
        with started(open_as_nobody, directory, sender):
            assert receiver.poll(PATIENCE)
            message = receiver.recv()
    finally:
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o755)
        shutil.rmtree(directory)
    assert message.startswith(f"cache.dir={directory} cannot be used")


# --- room -----------------------------------------------------------------------------------------------------


def test_usage(open_store: OpenStore) -> None:
    fill(open_store, *KEYS)
    store = open_store()
    publish(store.array(KEYS[0], FLAT), digests(5, 30))
    assert is_served(store.array(KEYS[1], FLAT), PHOTOS)
    store.array(KEY, FLAT)
    found = store.usage()
    assert [usage.key for usage in found] == [KEYS[1], KEYS[0], KEYS[2]]
    assert [usage.photos for usage in found] == [30, 35, 30]
    length = 4096 + 30 * FLAT.record.itemsize
    assert [usage.bytes for usage in found] == [length, length + 4096 + 5 * FLAT.record.itemsize, length]
    assert store.occupied() == sum(usage.bytes for usage in found)
    assert found[0].used == pytest.approx(time.time(), abs=60)


def test_longest_unused_features_make_room(open_store: OpenStore) -> None:
    fill(open_store, *KEYS)
    full = open_store().occupied()
    with open_store(full) as store:
        assert is_served(store.array(KEYS[0], FLAT), PHOTOS)
        store.make_room(0, {KEY})
        assert [usage.photos for usage in store.usage()] == [30, 30, 30]
        store.make_room(1, {KEY})
        assert [usage.key for usage in store.usage() if usage.photos] == [KEYS[0], KEYS[2]]
        assert store.occupied() == full - full // 3
        store.make_room(full // 3 + 1, {KEY})
        assert [usage.key for usage in store.usage() if usage.photos] == [KEYS[0]]
    assert held(open_store(), *KEYS) == [True, False, False]


def test_kept_features_do_not_make_room(open_store: OpenStore) -> None:
    fill(open_store, *KEYS)
    with open_store(open_store().occupied()) as store:
        store.make_room(1, {KEYS[0]})
        assert held(store, *KEYS) == [True, False, True]
        with pytest.raises(CacheError, match="has no room for them beside those in use"):
            store.make_room(int(store.max_bytes), {KEYS[0]})
        assert held(store, KEYS[0]) == [True]


def test_features_of_a_living_process_do_not_make_room(open_store: OpenStore) -> None:
    fill(open_store, KEYS[0])
    writer = open_store()
    publish(writer.array(KEYS[1], FLAT), PHOTOS)
    with open_store(writer.occupied()) as store:
        store.make_room(1, {KEY})
        assert held(store, *KEYS[:2]) == [False, True]
        with pytest.raises(CacheError, match="has no room for them beside those in use"):
            store.make_room(int(store.max_bytes), {KEY})
        assert held(store, KEYS[1]) == [True]
        writer.close()
        store.make_room(int(store.max_bytes), {KEY})
        assert held(store, KEYS[1]) == [False]


def test_features_of_a_rebuilt_index_make_room(open_store: OpenStore) -> None:
    fill(open_store, *KEYS[:2])
    with open_store() as store:
        full = store.occupied()
    ruin_index(store.directory)
    store = open_store(full)
    store.make_room(full, {KEY})
    assert store.occupied() == 0


def test_blobs_make_room_after_features(open_store: OpenStore) -> None:
    fill(open_store, *KEYS[:2])
    first = open_store()
    first.blobs.put("network", bytes(1000))
    with open_store(first.occupied()) as store:
        store.make_room(1000, {KEYS[0]})
        assert (held(store, *KEYS[:2]), store.blobs.get("network")) == ([True, False], bytes(1000))
        store.make_room(int(store.max_bytes) - 4096 - 30 * FLAT.record.itemsize, {KEYS[0]})
        assert (held(store, *KEYS[:2]), store.blobs.get("network")) == ([True, False], None)


def test_two_passes_at_once_keep_to_the_limit(open_store: OpenStore) -> None:
    """Each found room before either had stored anything; a network was converted as well."""
    fill(open_store, KEYS[0])
    size = open_store().occupied()
    passes = [open_store(2 * size) for _ in range(2)]
    for store, key in zip(passes, KEYS[1:], strict=True):
        store.make_room(size, [key])
    for store, key in zip(passes, KEYS[1:], strict=True):
        publish(store.array(key, FLAT), PHOTOS)
        store.blobs.put("network", bytes(size // 2))
    assert passes[0].occupied() > 2 * size
    for store in passes:
        store.close()
    with open_store(2 * size) as store:
        store.trim([KEYS[2]])
        assert store.occupied() <= 2 * size
        assert held(store, KEYS[2]) == [True]


def test_trimming_removes_what_it_may_where_the_rest_is_in_use(open_store: OpenStore) -> None:
    fill(open_store, *KEYS[:2])
    with open_store(100) as store:
        assert store.trim([KEYS[1]]) > 0
        assert held(store, *KEYS[:2]) == [False, True]


def test_what_can_never_fit_is_refused(open_store: OpenStore) -> None:
    fill(open_store, KEY)
    store = open_store(2.5e9)
    with pytest.raises(CacheError, match=r"need 5\.12 GB, and cache\.max_gb=2\.5 has no room"):
        store.make_room(5_120_000_000, {KEYS[0]})
    assert held(store, KEY) == [True]


def test_what_cannot_fit_beside_the_rest_is_refused(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_store()
    publish(writer.array(KEY, FLAT), PHOTOS)
    with pytest.raises(CacheError, match=r"need 2\.50 GB, and cache\.max_gb=2\.5 has no room"):
        open_store(2.5e9).make_room(2_500_000_000, {KEYS[0]})


def test_full_disk_is_refused(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(open_store, KEY)
    asked = []

    def disk_usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=3_000_000_000)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    store = open_store(1e12)
    store.make_room(3_000_000_000, {KEY})
    with pytest.raises(CacheError, match=r"need 3\.50 GB, and the disk of .* has 3\.00 GB left"):
        store.make_room(3_500_000_000, {KEY})
    assert asked == [store.directory] * 2
    assert held(store, KEY) == [True]


# --- cleaning up ----------------------------------------------------------------------------------------------


def test_prune_keeps_what_is_wanted(open_store: OpenStore) -> None:
    fill(open_store, *KEYS)
    store = open_store()
    before = store.occupied()
    assert store.prune(lambda usage: True) == (0, 0)
    assert store.prune(lambda usage: usage.key == KEYS[1]) == (60, before - before // 3)
    assert [usage.key for usage in store.usage()] == [KEYS[1]]
    assert store.occupied() == before // 3
    assert held(open_store(), *KEYS) == [False, True, False]


def test_pruned_array_is_filled_again(open_store: OpenStore) -> None:
    fill(open_store, KEY)
    with open_store() as store:
        store.prune(lambda usage: False)
        assert store.usage() == []
    fill(open_store, KEY)
    assert held(open_store(), KEY) == [True]


def test_writer_goes_on_after_others_pruned(open_store: OpenStore) -> None:
    array = open_store().array(KEY, FLAT)
    publish(array, PHOTOS[:10])
    open_store().prune(lambda usage: False)
    publish(array, missing := array.missing(PHOTOS))
    assert missing
    assert is_served(array, PHOTOS)
    assert held(open_store(), KEY) == [True]


def test_pruned_array_does_not_turn_into_another(open_store: OpenStore) -> None:
    array = open_store().array(KEYS[0], FLAT)
    publish(array, PHOTOS)
    with open_store() as store:
        store.prune(lambda usage: False)
        publish(store.array(KEYS[1], FLAT), PHOTOS)
    rows = array.read(PHOTOS)
    assert rows is None or is_served(array, PHOTOS)


def test_claims_do_not_move_to_another_array(open_store: OpenStore) -> None:
    array = open_store().array(KEYS[0], FLAT)
    publish(array, PHOTOS[:5])
    array.claim(PHOTOS)
    store = open_store()
    store.prune(lambda usage: False)
    assert store.array(KEYS[1], FLAT).claim(PHOTOS) == (PHOTOS, [])


def test_evicted_while_it_is_read(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(open_store, KEYS[0])
    array = open_store().array(KEYS[0], FLAT)
    places = array._places

    def evicted_afterwards(photos: list[str]) -> list[tuple[bytes, int, int]]:
        found = places(photos)
        with open_store() as store:
            store.max_bytes = store.occupied()
            store.make_room(int(store.max_bytes), {KEYS[1]})
            publish(store.array(KEYS[1], FLAT), PHOTOS)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(array, "_places", evicted_afterwards)
        rows = array.read(PHOTOS)
    assert rows is None
    assert held(open_store(), *KEYS[:2]) == [False, True]


def test_empty_segments_of_ended_processes_are_collected(open_store: OpenStore) -> None:
    first, second = open_store(), open_store()
    publish(first.array(KEY, FLAT), PHOTOS)
    old = only_segment(first)
    second.array(KEY, FLAT).publish(PHOTOS, features(PHOTOS))
    moment = time.time() - 7200
    os.utime(old, (moment, moment))
    second.collect()
    first.collect()
    assert old.exists()
    first.close()
    second.collect()
    assert not old.exists()
    assert held(second, KEY) == [True]
    second.close()
    open_store().collect()
    assert held(open_store(), KEY) == [True]


def test_stray_files_are_collected_after_an_hour(open_store: OpenStore) -> None:
    fill(open_store, KEY)
    store = open_store()
    publish(store.array(KEYS[0], FLAT), PHOTOS)
    known = set((store.directory / "segments").iterdir())
    fresh, aged = (store.directory / "segments" / f"{name}.features" for name in ("fresh", "aged"))
    for path, age in ((fresh, 3500), (aged, 3700), *((path, 7200) for path in known)):
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    store.collect()
    assert set((store.directory / "segments").iterdir()) == {*known, fresh}
    assert held(store, KEY, KEYS[0]) == [True, True]


def test_two_may_collect_at_once(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(open_store, KEY)
    store = open_store()
    stray = store.directory / "segments" / "stray.features"
    stray.touch()
    os.utime(stray, (0, 0))
    iterate = Path.iterdir

    def others_are_faster(path: Path) -> Iterator[Path]:
        found = list(iterate(path))
        stray.unlink(missing_ok=True)
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", others_are_faster)
    store.collect()
    assert held(store, KEY) == [True]


def test_features_of_a_living_process_survive_collecting(open_store: OpenStore) -> None:
    writer = open_store()
    array = writer.array(KEY, FLAT)
    array.claim(PHOTOS)
    # The file is known, has no rows yet and will get some.
    with array._mutex:
        array._open()
    old = only_segment(writer)
    os.utime(old, (0, 0))
    open_store().collect()
    array.publish(PHOTOS, features(PHOTOS))
    assert held(open_store(), KEY) == [True]

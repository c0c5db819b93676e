"""Every photo's own features are served, or none."""

from __future__ import annotations

import logging
import os
import random
import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dogbreeds.errors import CacheError
from dogbreeds.features.store.array import FeatureArray
from dogbreeds.features.store.segments import ArrayKey, Layout, SegmentWriter
from dogbreeds.features.store.store import FeatureStore
from tests.features.store.filling import (
    CONTEXT,
    FLAT,
    KEY,
    PATIENCE,
    OpenStore,
    claim_and_hang,
    digests,
    expected,
    features,
    is_served,
    only_segment,
    publish,
    ruin_index,
    served,
    started,
)

PHOTOS = digests(10)
OTHER_KEYS = [
    replace(KEY, trunk="resnet18"),
    replace(KEY, weights="6" * 64),
    replace(KEY, transform="resize 40, crop 32"),
    replace(KEY, engine="torch bf16"),
    replace(KEY, view="augmented 1"),
]


@pytest.fixture
def array(store: FeatureStore) -> FeatureArray:
    return store.array(KEY, FLAT)


@pytest.fixture
def other(open_store: OpenStore) -> FeatureArray:
    """The same array as another process sees it."""
    return open_store().array(KEY, FLAT)


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 3)])
def test_published_features_are_served(open_store: OpenStore, shape: tuple[int, ...], kind: str) -> None:
    layout = Layout(shape, kind)
    with open_store() as store:
        array = store.array(KEY, layout)
        assert array.missing(PHOTOS) == PHOTOS
        publish(array, PHOTOS[:6])
        publish(array, PHOTOS[6:])
        assert is_served(array, PHOTOS)
    array = open_store().array(KEY, layout)
    assert is_served(array, PHOTOS)
    rows = array.read(PHOTOS)
    assert rows is not None
    assert (len(rows), rows.tensor().dtype) == (10, torch.float32)


def test_float32_is_kept_to_the_last_bit(array: FeatureArray) -> None:
    values = np.random.default_rng(0).normal(size=(10, 5)).astype(np.float32)
    array.publish(PHOTOS, values)
    assert np.array_equal(served(array, PHOTOS).numpy(), values)


def test_rows_follow_the_photos_asked_for(array: FeatureArray) -> None:
    publish(array, PHOTOS)
    wanted = [PHOTOS[place] for place in (7, 2, 2, 9, 0, 7)]
    assert torch.equal(served(array, wanted), expected(array, wanted))
    assert served(array, []).shape == (0, 5)


def test_thousands_of_photos(array: FeatureArray, other: FeatureArray) -> None:
    photos = digests(2500)
    publish(array, photos[:2000])
    assert other.missing(photos) == photos[2000:]
    assert other.claim(photos) == (photos[2000:], [])
    other.publish(photos[2000:], features(photos[2000:]))
    assert is_served(array, photos[::-1])


def test_missing_photos_come_once_in_order(array: FeatureArray) -> None:
    publish(array, PHOTOS[3:5])
    wanted = [PHOTOS[place] for place in (8, 3, 1, 8, 4, 0, 1)]
    assert array.missing(wanted) == [PHOTOS[8], PHOTOS[1], PHOTOS[0]]
    assert array.missing([]) == array.missing(PHOTOS[3:5]) == []


def test_nothing_is_read_when_some_are_missing(array: FeatureArray, caplog: pytest.LogCaptureFixture) -> None:
    publish(array, PHOTOS[:9])
    with caplog.at_level(logging.WARNING):
        assert array.read(PHOTOS) is None
    assert array.missing(PHOTOS) == PHOTOS[9:]
    assert is_served(array, PHOTOS[:9])
    assert caplog.text == ""


def test_served_rows_stay_while_more_is_published(array: FeatureArray) -> None:
    publish(array, PHOTOS[:5])
    rows = array.read(PHOTOS[:5])
    publish(array, PHOTOS[5:])
    assert rows is not None
    assert torch.equal(rows.tensor(), expected(array, PHOTOS[:5]))


def test_features_may_be_published_again(array: FeatureArray, other: FeatureArray) -> None:
    publish(array, PHOTOS)
    other.publish(PHOTOS[:3], features(PHOTOS[:3]))
    array.publish(PHOTOS[2:5], features(PHOTOS[2:5]))
    assert is_served(array, PHOTOS)
    assert is_served(other, PHOTOS)


def test_empty_batch(array: FeatureArray) -> None:
    assert array.claim([]) == ([], [])
    array.release([])
    array.publish([], np.empty((0, 5), np.float32))
    publish(array, PHOTOS)
    assert is_served(array, PHOTOS)


@pytest.mark.parametrize("shape", [(1, 5), (5,), (2, 5), (3, 1), (3, 4), (3, 2, 5)])
def test_features_of_another_shape_are_refused(array: FeatureArray, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape|broadcast"):
        array.publish(PHOTOS[:3], np.zeros(shape, np.float32))
    assert array.missing(PHOTOS) == PHOTOS
    publish(array, PHOTOS)
    assert is_served(array, PHOTOS)


@pytest.mark.parametrize("key", OTHER_KEYS, ids=["trunk", "weights", "transform", "engine", "view"])
def test_another_key_shares_nothing(store: FeatureStore, array: FeatureArray, key: ArrayKey) -> None:
    publish(array, PHOTOS)
    changed = store.array(key, FLAT)
    assert changed.missing(PHOTOS) == PHOTOS
    assert changed.read(PHOTOS) is None
    publish(changed, PHOTOS[::-1])
    assert is_served(changed, PHOTOS)
    assert is_served(array, PHOTOS)
    assert not torch.equal(served(changed, PHOTOS), served(array, PHOTOS))


def test_claims_under_another_key_are_free(open_store: OpenStore, array: FeatureArray) -> None:
    array.claim(PHOTOS)
    assert open_store().array(OTHER_KEYS[4], FLAT).claim(PHOTOS) == (PHOTOS, [])


def test_another_layout_does_not_spoil_an_array(open_store: OpenStore, array: FeatureArray) -> None:
    publish(array, PHOTOS)
    with suppress(CacheError, ValueError):
        halved = open_store().array(KEY, Layout((5,), "float16"))
        assert halved.read(PHOTOS) is None
    assert is_served(array, PHOTOS)


def test_claimed_photos_are_busy_for_others(array: FeatureArray, other: FeatureArray) -> None:
    publish(array, PHOTOS[:2])
    assert array.claim(PHOTOS[:5]) == (PHOTOS[2:5], [])
    assert other.claim(PHOTOS) == (PHOTOS[5:], PHOTOS[2:5])
    assert array.claim(PHOTOS) == (PHOTOS[2:5], PHOTOS[5:])
    other.release_dead()
    assert other.claim(PHOTOS) == (PHOTOS[5:], PHOTOS[2:5])


def test_published_photos_are_neither_claimed_nor_busy(array: FeatureArray, other: FeatureArray) -> None:
    array.claim(PHOTOS)
    array.publish(PHOTOS[:4], features(PHOTOS[:4]))
    assert other.claim(PHOTOS) == ([], PHOTOS[4:])
    array.publish(PHOTOS[4:], features(PHOTOS[4:]))
    assert other.claim(PHOTOS) == array.claim(PHOTOS) == ([], [])


def test_released_photos_are_free(array: FeatureArray, other: FeatureArray) -> None:
    array.claim(PHOTOS)
    array.release(PHOTOS[:3])
    assert other.claim(PHOTOS) == (PHOTOS[:3], PHOTOS[3:])
    assert other.missing(PHOTOS) == PHOTOS


def test_claims_end_with_their_store(open_store: OpenStore, other: FeatureArray) -> None:
    store = open_store()
    store.array(KEY, FLAT).claim(PHOTOS)
    other.release_dead()
    assert other.claim(PHOTOS) == ([], PHOTOS)
    store.close()
    other.release_dead()
    assert other.claim(PHOTOS) == (PHOTOS, [])


@pytest.mark.slow
def test_claims_end_with_a_killed_process(array: FeatureArray, other: FeatureArray, tmp_path: Path) -> None:
    receiver, sender = CONTEXT.Pipe(duplex=False)
    other.claim(PHOTOS[8:])
    with started(claim_and_hang, tmp_path / "store", PHOTOS, sender) as process:
        assert receiver.poll(PATIENCE)
        assert receiver.recv()[1] == (PHOTOS[:8], PHOTOS[8:])
        array.release_dead()
        assert array.claim(PHOTOS) == ([], PHOTOS)
        process.kill()
        process.join(PATIENCE)
    assert array.claim(PHOTOS) == ([], PHOTOS)
    array.release_dead()
    assert array.claim(PHOTOS) == (PHOTOS[:8], PHOTOS[8:])


def edited(path: Path, edit: Callable[[np.ndarray], None]) -> None:
    """Changes the ten records of a file, as (10, bytes of a record)."""
    content = bytearray(path.read_bytes())
    length = FLAT.record.itemsize
    edit(np.frombuffer(content, np.uint8)[-10 * length :].reshape(10, length))
    path.write_bytes(content)


def flip_a_feature(path: Path) -> None:
    def edit(records: np.ndarray) -> None:
        records[4, 41] ^= 16

    edited(path, edit)


def flip_a_digest(path: Path) -> None:
    def edit(records: np.ndarray) -> None:
        records[4, 10] ^= 16

    edited(path, edit)


def swap_records(path: Path) -> None:
    def edit(records: np.ndarray) -> None:
        records[[2, 7]] = records[[7, 2]]

    edited(path, edit)


def swap_features(path: Path) -> None:
    def edit(records: np.ndarray) -> None:
        records[[2, 7], 40:] = records[[7, 2], 40:]

    edited(path, edit)


def zero_the_end(path: Path) -> None:
    def edit(records: np.ndarray) -> None:
        records[6:] = 0

    edited(path, edit)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: -3 * FLAT.record.itemsize - 1])


def cut_under_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def delete(path: Path) -> None:
    path.unlink()


# What is done to the first of two files of ten photos, the photos that it damages, and those of them that cannot
# be found again from the files alone.
DAMAGES = [
    (flip_a_feature, [4], [4]),
    (flip_a_digest, [4], [4]),
    (swap_records, [2, 7], []),
    (swap_features, [2, 7], [2, 7]),
    (zero_the_end, [6, 7, 8, 9], [6, 7, 8, 9]),
    (truncate, [6, 7, 8, 9], [6, 7, 8, 9]),
    (cut_under_the_header, [*range(10)], [*range(10)]),
    (empty, [*range(10)], [*range(10)]),
    (delete, [*range(10)], [*range(10)]),
]
NAMES = [damage[0].__name__ for damage in DAMAGES]
MORE = digests(10, 10)


def damaged_store(open_store: OpenStore, damage: Callable[[Path], None]) -> Path:
    """Twenty photos in two files, the first of them damaged."""
    with open_store() as store:
        publish(store.array(KEY, FLAT), PHOTOS)
        path = only_segment(store)
    with open_store() as store:
        publish(store.array(KEY, FLAT), MORE)
    damage(path)
    return store.directory


@pytest.mark.parametrize(("damage", "lost", "_"), DAMAGES, ids=NAMES)
def test_only_damaged_rows_are_missing(
    open_store: OpenStore,
    damage: Callable[[Path], None],
    lost: list[int],
    _: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    damaged_store(open_store, damage)
    array = open_store().array(KEY, FLAT)
    assert is_served(array, MORE)
    with caplog.at_level(logging.WARNING):
        assert array.read([*PHOTOS, *MORE]) is None
    assert f"{len(lost)} stored features are damaged" in caplog.text
    again = [PHOTOS[place] for place in lost]
    assert array.missing([*PHOTOS, *MORE]) == again
    assert is_served(array, [photo for photo in [*PHOTOS, *MORE] if photo not in again])
    publish(array, again)
    assert is_served(array, [*PHOTOS, *MORE])


@pytest.mark.parametrize(("damage", "_", "lost"), DAMAGES, ids=NAMES)
def test_only_damaged_rows_are_missing_from_a_rebuilt_index(
    open_store: OpenStore, damage: Callable[[Path], None], _: list[int], lost: list[int]
) -> None:
    directory = damaged_store(open_store, damage)
    ruin_index(directory)
    array = open_store().array(KEY, FLAT)
    again = [PHOTOS[place] for place in lost]
    assert array.missing([*PHOTOS, *MORE]) == again
    assert is_served(array, [photo for photo in [*PHOTOS, *MORE] if photo not in again])
    publish(array, again)
    assert is_served(array, [*PHOTOS, *MORE])


def test_damage_is_found_while_others_have_the_array_open(array: FeatureArray, other: FeatureArray) -> None:
    publish(array, PHOTOS)
    rows = array.read(PHOTOS)
    path = array._directory / next(array._directory.iterdir()).name
    flip_a_feature(path)
    assert other.read(PHOTOS) is None
    assert array.missing(PHOTOS) == [PHOTOS[4]]
    publish(other, [PHOTOS[4]])
    assert is_served(array, PHOTOS)
    assert rows is not None


def test_exchanged_files_of_two_keys_are_noticed(open_store: OpenStore) -> None:
    paths = []
    for key in (KEY, OTHER_KEYS[4]):
        with open_store() as store:
            before = set((store.directory / "segments").iterdir())
            publish(store.array(key, FLAT), PHOTOS)
            paths += set((store.directory / "segments").iterdir()) - before
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, reversed(contents), strict=True):
        path.write_bytes(content)
    array = open_store().array(KEY, FLAT)
    rows = array.read(PHOTOS)
    assert rows is None or torch.equal(rows.tensor(), expected(array, PHOTOS))


def test_files_that_cannot_be_opened_now_are_not_forgotten(array: FeatureArray) -> None:
    publish(array, PHOTOS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with suppress(OSError):
            assert array.read(PHOTOS) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert array.missing(PHOTOS) == []
    assert is_served(array, PHOTOS)


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """Lets no file of this process grow beyond a size, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_stores_nothing_of_the_batch(open_store: OpenStore) -> None:
    layout = Layout((100_000,), "float32")
    with open_store() as store:
        array = store.array(KEY, layout)
        publish(array, PHOTOS[:2])
        array.claim(PHOTOS[2:6])
        # Room for half of the next batch, which ends in a torn record.
        with limited_files(1_700_000), pytest.raises(OSError, match="File too large"):
            array.publish(PHOTOS[2:6], features(PHOTOS[2:6], layout))
        assert only_segment(store).stat().st_size == 1_700_000
        assert array.missing(PHOTOS[:6]) == PHOTOS[2:6]
        array.publish(PHOTOS[2:6], features(PHOTOS[2:6], layout))
        assert is_served(array, PHOTOS[:6])
    ruin_index(store.directory)
    assert is_served(open_store().array(KEY, layout), PHOTOS[:6])


def test_disk_too_full_for_a_new_file(array: FeatureArray, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(writer: SegmentWriter, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    array.claim(PHOTOS)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(SegmentWriter, "_write", full)
        array.publish(PHOTOS, features(PHOTOS))
    assert array.missing(PHOTOS) == PHOTOS
    array.publish(PHOTOS, features(PHOTOS))
    assert is_served(array, PHOTOS)


def test_disk_too_full_for_the_index(array: FeatureArray) -> None:
    array.claim(PHOTOS)
    with limited_files(0), pytest.raises(Exception) as caught:
        array.publish(PHOTOS, features(PHOTOS))
    assert array.missing(PHOTOS) == PHOTOS
    array.publish(PHOTOS, features(PHOTOS))
    assert is_served(array, PHOTOS)
    # As `publish` says, and as its callers expect.
    assert isinstance(caught.value, OSError)


def test_commit_that_fails_stores_nothing_of_the_batch(array: FeatureArray, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: FeatureArray, digests: list[bytes]) -> None:
        raise KeyboardInterrupt

    publish(array, PHOTOS[:5])
    array.claim(PHOTOS[5:])
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(FeatureArray, "_end_claims", fail)
        array.publish(PHOTOS[5:], features(PHOTOS[5:]))
    assert array.missing(PHOTOS) == PHOTOS[5:]
    publish(array, PHOTOS[5:])
    assert is_served(array, PHOTOS)


def test_four_threads_fill_an_array(array: FeatureArray, other: FeatureArray) -> None:
    photos = digests(200)
    barrier = threading.Barrier(4)

    def work(number: int) -> int:
        order = random.Random(number).sample(photos, len(photos))
        barrier.wait(PATIENCE)
        published = 0
        for start in range(0, len(order), 8):
            mine, busy = array.claim(array.missing(order[start : start + 8]))
            assert busy == []
            if mine:
                array.publish(mine, features(mine))
                published += len(mine)
            assert is_served(array, order[: start + 8])
        return published

    with ThreadPoolExecutor(4) as pool:
        published = [future.result(PATIENCE) for future in [pool.submit(work, number) for number in range(4)]]
    assert sum(published) >= len(photos)
    assert is_served(other, photos)
    assert other.claim(photos) == ([], [])


def test_threads_with_arrays_of_their_own(open_store: OpenStore, store: FeatureStore) -> None:
    keys = [KEY, *OTHER_KEYS[:3]]
    photos = digests(60)
    barrier = threading.Barrier(4)

    def work(key: ArrayKey) -> None:
        array = store.array(key, FLAT)
        barrier.wait(PATIENCE)
        for start in range(0, len(photos), 5):
            publish(array, photos[start : start + 5])

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, key) for key in keys]:
            future.result(PATIENCE)
    others = open_store()
    assert all(is_served(others.array(key, FLAT), photos) for key in keys)

"""Processes may be killed at any moment, and any number of them fill a store."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
import torch

from dogbreeds.features.store.store import FeatureStore
from tests.features.store.filling import (
    BATCH,
    CONTEXT,
    FLAT,
    KEY,
    PATIENCE,
    OpenStore,
    claim_and_hang,
    digests,
    expected,
    fill,
    is_served,
    logged,
    publish,
    publish_and_die,
    ruin_index,
    served,
    started,
    wait_until,
)

pytestmark = pytest.mark.slow

KILLS = 20
PHOTOS = digests(250 * BATCH)


def test_killed_at_twenty_moments_of_a_fill(open_store: OpenStore, tmp_path: Path) -> None:
    directory, moments = tmp_path / "store", random.Random(7)
    stored: set[str] = set()
    for kill in range(KILLS):
        log = tmp_path / f"computed {kill}"
        batches, delay = moments.randrange(6), moments.uniform(0, 0.008)
        with started(fill, directory, PHOTOS, log, 0.001) as process:
            wait_until(lambda log=log, batches=batches: len(logged(log)) >= batches)
            time.sleep(delay)
            process.kill()
            process.join(PATIENCE)
            assert process.exitcode == -signal.SIGKILL
        with open_store() as store:
            array = store.array(KEY, FLAT)
            missing = set(array.missing(PHOTOS))
            present = [photo for photo in PHOTOS if photo not in missing]
            assert torch.equal(served(array, present), expected(array, present))
        assert stored <= set(present)
        computed = logged(log)
        assert not stored & {photo for batch in computed for photo in batch}
        assert not missing & {photo for batch in computed[:-1] for photo in batch}
        stored = set(present)
    assert 0 < len(stored) < len(PHOTOS)

    log = tmp_path / "computed at last"
    with started(fill, directory, PHOTOS, log, 0.0) as process:
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert [photo for batch in logged(log) for photo in batch] == [photo for photo in PHOTOS if photo not in stored]
    with FeatureStore(tmp_path / "clean", 1e9) as clean, open_store() as store:
        publish(clean.array(KEY, FLAT), PHOTOS)
        array = store.array(KEY, FLAT)
        assert torch.equal(served(array, PHOTOS), served(clean.array(KEY, FLAT), PHOTOS))
        assert array.claim(PHOTOS) == ([], [])
    ruin_index(directory)
    assert is_served(open_store().array(KEY, FLAT), PHOTOS)


MOMENTS = ["claimed", "before the write", "during the write", "before the commit", "during the commit", "published"]


@pytest.mark.parametrize("rebuilt", [False, True], ids=["", "and the index is rebuilt"])
@pytest.mark.parametrize("whole", [0, 2])
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_moment(open_store: OpenStore, tmp_path: Path, moment: str, whole: int, rebuilt: bool) -> None:
    directory, photos = tmp_path / "store", digests(4 * BATCH)
    before, torn, after = photos[: whole * BATCH], photos[whole * BATCH :][:BATCH], photos[(whole + 1) * BATCH :]
    with started(publish_and_die, directory, photos, moment, whole) as process:
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGKILL
    if rebuilt:
        ruin_index(directory)
    array = open_store().array(KEY, FLAT)
    assert is_served(array, before)
    # A record that was written but not committed is found when the index is rebuilt, and only then.
    lost = moment != "published" and not (rebuilt and moment in ("before the commit", "during the commit"))
    missing = [*(torn if lost else []), *after]
    if not (rebuilt and moment == "during the write"):
        assert array.missing(photos) == missing
    elif whole:
        # Half of the write are whole records.
        assert array.missing(photos) == [*torn[BATCH // 2 :], *after]
    if not rebuilt:
        claimed = torn if lost else []
        assert array.claim(photos) == (after, claimed)
        array.release_dead()
    publish(array, array.missing(photos))
    assert is_served(array, photos)
    with open_store() as store:
        store.collect()
        assert is_served(store.array(KEY, FLAT), photos)


def test_two_processes_share_the_work(open_store: OpenStore, tmp_path: Path) -> None:
    photos, logs = digests(60 * BATCH), [tmp_path / "one", tmp_path / "two"]
    barrier = CONTEXT.Barrier(2)
    with (
        started(fill, tmp_path / "store", photos, logs[0], 0.001, barrier) as one,
        started(fill, tmp_path / "store", photos, logs[1], 0.001, barrier) as two,
    ):
        one.join(PATIENCE)
        two.join(PATIENCE)
        assert (one.exitcode, two.exitcode) == (0, 0)
    computed = [[photo for batch in logged(log) for photo in batch] for log in logs]
    assert all(computed)
    assert sorted(computed[0] + computed[1]) == sorted(photos)
    assert is_served(open_store().array(KEY, FLAT), photos)


def test_photos_of_a_killed_process_are_taken_over(open_store: OpenStore, tmp_path: Path) -> None:
    photos, log = digests(10 * BATCH), tmp_path / "computed"
    first, second = photos[: 5 * BATCH], photos[5 * BATCH :]
    receiver, sender = CONTEXT.Pipe(duplex=False)
    with started(claim_and_hang, tmp_path / "store", first, sender) as hanging:
        assert receiver.poll(PATIENCE)
        assert receiver.recv()[1] == (first, [])
        with started(fill, tmp_path / "store", photos, log, 0.0) as waiting:
            wait_until(lambda: len(logged(log)) == 5)
            assert sorted(photo for batch in logged(log) for photo in batch) == sorted(second)
            assert waiting.is_alive()
            hanging.kill()
            waiting.join(PATIENCE)
            assert waiting.exitcode == 0
    assert sorted(photo for batch in logged(log) for photo in batch) == sorted(photos)
    assert is_served(open_store().array(KEY, FLAT), photos)


def test_processes_open_a_new_store_at_once(open_store: OpenStore, tmp_path: Path) -> None:
    photos, logs = digests(4 * BATCH), [tmp_path / f"{number}" for number in range(4)]
    processes = [started(fill, tmp_path / "store", photos, log, 0.0) for log in logs]
    with processes[0] as a, processes[1] as b, processes[2] as c, processes[3] as d:
        for process in (a, b, c, d):
            process.join(PATIENCE)
            assert process.exitcode == 0
    assert sorted(photo for log in logs for batch in logged(log) for photo in batch) == sorted(photos)
    assert is_served(open_store().array(KEY, FLAT), photos)

"""The pass over the photos: each is computed once, whoever else computes and however it ends."""

from __future__ import annotations

import errno
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dogbreeds.data.views import read_view
from dogbreeds.errors import CacheError, DataError
from dogbreeds.features import extract
from dogbreeds.features.extract import LocalExtractor, Pass, fill, photos_per_second
from dogbreeds.features.store.array import FeatureArray
from dogbreeds.features.store.segments import ArrayKey, Layout
from dogbreeds.features.store.store import FeatureStore
from tests.features.colours import PATIENCE, TRANSFORM, Colour, ColourEngine, MeanColour, colours, digest, paint

KEY = ArrayKey("mean colour", "0" * 64, str(TRANSFORM), "torch fp32", "evaluation")
LAYOUT = Layout((3,), "float32")
COUNT = 11


@pytest.fixture
def other_store(tmp_path: Path) -> Iterator[FeatureStore]:
    """The same store as another process sees it."""
    with FeatureStore(tmp_path / "store", 1e9) as opened:
        yield opened


@pytest.fixture
def array(store: FeatureStore) -> FeatureArray:
    return store.array(KEY, LAYOUT)


@pytest.fixture
def other(other_store: FeatureStore) -> FeatureArray:
    return other_store.array(KEY, LAYOUT)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Digests and photos, one plain colour each."""
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(COUNT)]
    return {paint(path, colour): path for path, colour in zip(paths, colours(COUNT), strict=True)}


def run(
    array: FeatureArray,
    files: Mapping[str, Path],
    engine: ColourEngine | None = None,
    *,
    view: int = 0,
    progress: Callable[[int], None] = lambda count: None,
) -> Pass:
    return fill(array, files, LocalExtractor(engine or ColourEngine(), TRANSFORM), view, progress)


def served(array: FeatureArray, photos: Sequence[str]) -> Tensor:
    rows = array.read(photos)
    assert rows is not None
    return rows.tensor()


def is_free(array: FeatureArray, photos: Sequence[str]) -> bool:
    """Whether nobody has claimed any of the photos, and nobody has computed one."""
    mine, busy = array.claim(photos)
    array.release(mine)
    return (mine, busy) == (list(photos), [])


def fail_after(batches: int) -> Callable[[list[Colour]], None]:
    # Workers count together.
    counter = itertools.count()

    def before(batch: list[Colour]) -> None:
        if next(counter) >= batches:
            raise RuntimeError("the engine broke")

    return before


def never(batch: list[Colour]) -> None:
    raise AssertionError(f"computed again: {batch}")


# --- what is computed


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [1, 3, COUNT, 50])
def test_every_photo_is_computed_once(
    array: FeatureArray, files: dict[str, Path], batch_size: int, workers: int
) -> None:
    engine = ColourEngine(batch_size, workers)
    done = run(array, files, engine)
    assert (done.computed, done.unreadable) == (COUNT, {})
    assert sorted(engine.seen) == sorted(colours(COUNT))
    assert max(engine.batches) <= batch_size
    assert torch.equal(served(array, list(files)), torch.tensor(colours(COUNT)).float())


def test_features_belong_to_their_photos_in_any_order(array: FeatureArray, files: dict[str, Path]) -> None:
    run(array, dict(sorted(files.items())), ColourEngine(batch_size=2, workers=3))
    order = [3, 0, 7, 7, 10]
    photos = list(files)
    expected = torch.tensor(colours(COUNT))[order].float()
    assert torch.equal(served(array, [photos[number] for number in order]), expected)


def test_nothing_is_computed_twice(array: FeatureArray, files: dict[str, Path]) -> None:
    run(array, files)
    assert run(array, files, ColourEngine(before=never)).computed == 0


def test_new_photos_are_the_only_ones_computed(array: FeatureArray, files: dict[str, Path], tmp_path: Path) -> None:
    run(array, files)
    new = paint(tmp_path / "photos" / "new.png", (1, 2, 3))
    engine = ColourEngine()
    assert run(array, {**files, new: tmp_path / "photos" / "new.png"}, engine).computed == 1
    assert engine.seen == [(1, 2, 3)]


def test_progress_counts_all_that_is_missing(array: FeatureArray, files: dict[str, Path]) -> None:
    counts: list[int] = []
    run(array, files, ColourEngine(batch_size=3), progress=counts.append)
    assert sum(counts) == COUNT
    assert max(counts) == 3
    run(array, files, progress=counts.append)
    assert sum(counts) == COUNT


def test_an_augmented_view_is_what_the_trunk_sees(array: FeatureArray, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    files = {}
    for number in range(4):
        path = tmp_path / f"{number}.png"
        Image.fromarray(generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
        files[digest(path)] = path
    run(array, files, view=2)
    crops = read_view([path.read_bytes() for path in files.values()], list(files), 2, TRANSFORM)
    images = torch.stack([crop for crop in crops if isinstance(crop, Tensor)])
    assert torch.equal(served(array, list(files)), MeanColour()(images))


# --- workers


def test_one_worker_runs_where_a_debugger_is(array: FeatureArray, files: dict[str, Path]) -> None:
    engine = ColourEngine(workers=1)
    threads = threading.active_count()
    run(array, files, engine, progress=lambda count: engine.threads.add(threading.get_ident()))
    assert engine.threads == {threading.get_ident()}
    # Threads of an earlier test may end meanwhile.
    assert threading.active_count() <= threads


def test_workers_run_at_the_same_time(array: FeatureArray, files: dict[str, Path]) -> None:
    barrier = threading.Barrier(2)
    first = threading.Event()

    def meet(batch: list[Colour]) -> None:
        if not first.is_set():
            barrier.wait(PATIENCE)
            first.set()

    engine = ColourEngine(batch_size=1, workers=2, before=meet)
    assert run(array, files, engine).computed == COUNT
    assert len(engine.threads) == 2
    assert threading.get_ident() not in engine.threads


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_an_error_in_one_worker_stops_the_others_and_gives_up_the_claims(
    array: FeatureArray,
    other: FeatureArray,
    files: dict[str, Path],
    workers: int,
    kind: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unlucky, stopped = colours(COUNT)[workers - 1], threading.Event()

    def before(batch: list[Colour]) -> None:
        if unlucky in batch:
            raise kind("the engine broke")
        assert stopped.wait(PATIENCE)

    monkeypatch.setattr(extract, "threading", SimpleNamespace(Event=lambda: stopped, Lock=threading.Lock))
    engine = ColourEngine(batch_size=1, workers=workers, before=before)
    with pytest.raises(kind, match="the engine broke"):
        run(array, files, engine)
    # The others end the batch that they are at.
    assert len(engine.seen) <= workers
    missing = array.missing(list(files))
    assert len(missing) == COUNT - len(engine.seen)
    assert is_free(other, missing)


# --- passes that are interrupted


@pytest.mark.parametrize("workers", [1, 2])
def test_the_next_pass_continues_where_the_last_one_ended(
    array: FeatureArray, files: dict[str, Path], workers: int
) -> None:
    broken = ColourEngine(batch_size=2, workers=workers, before=fail_after(3))
    with pytest.raises(RuntimeError, match="the engine broke"):
        run(array, files, broken)
    assert len(broken.seen) == 6
    engine = ColourEngine(batch_size=2, workers=workers)
    assert run(array, files, engine).computed == COUNT - 6
    assert sorted(broken.seen + engine.seen) == sorted(colours(COUNT))
    assert torch.equal(served(array, list(files)), torch.tensor(colours(COUNT)).float())


# --- several processes


def started(
    pool: ThreadPoolExecutor, array: FeatureArray, files: dict[str, Path], engine: ColourEngine
) -> Future[Pass]:
    return pool.submit(run, array, files, engine)


def test_two_passes_at_once_share_the_photos(array: FeatureArray, other: FeatureArray, tmp_path: Path) -> None:
    count = 60
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(count)]
    files = {paint(path, colour): path for path, colour in zip(paths, colours(count), strict=True)}
    both_compute = threading.Barrier(4)

    def meet(batch: list[Colour]) -> None:
        if len(met) < 4:
            met.append(threading.get_ident())
            both_compute.wait(PATIENCE)

    met: list[int] = []
    engines = [ColourEngine(batch_size=2, workers=2, before=meet) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        passes = [started(pool, place, files, engine) for place, engine in zip((array, other), engines, strict=True)]
        done = [one.result(PATIENCE) for one in passes]
    assert sorted(engines[0].seen + engines[1].seen) == sorted(colours(count))
    assert [one.computed for one in done] == [len(engine.seen) for engine in engines]
    assert min(one.computed for one in done) >= 4
    for place in (array, other):
        assert torch.equal(served(place, list(files)), torch.tensor(colours(count)).float())


def waits_for(array: FeatureArray, other: FeatureArray, files: dict[str, Path], end: Callable[[], None]) -> Pass:
    """Runs a pass while another process computes the fourth photo, which `end` says how it ends."""
    theirs = list(files)[3]
    assert other.claim([theirs]) == ([theirs], [])
    engine = ColourEngine(batch_size=2)
    with ThreadPoolExecutor(1) as pool:
        future = started(pool, array, files, engine)
        deadline = time.monotonic() + PATIENCE
        while array.missing(list(files)) != [theirs]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not future.done()
        end()
        done = future.result(PATIENCE)
    assert len(engine.seen) == len(set(engine.seen)) == done.computed
    return done


def test_what_another_process_computes_is_waited_for(
    array: FeatureArray, other: FeatureArray, files: dict[str, Path]
) -> None:
    theirs = list(files)[3]
    feature = np.array([colours(COUNT)[3]], np.float32)
    assert waits_for(array, other, files, lambda: other.publish([theirs], feature)).computed == COUNT - 1
    assert torch.equal(served(array, list(files)), torch.tensor(colours(COUNT)).float())


def test_what_another_process_gives_up_is_computed(
    array: FeatureArray, other: FeatureArray, files: dict[str, Path]
) -> None:
    assert waits_for(array, other, files, lambda: other.release([list(files)[3]])).computed == COUNT


def test_what_a_process_that_ended_had_claimed_is_computed(
    array: FeatureArray, other: FeatureArray, other_store: FeatureStore, files: dict[str, Path]
) -> None:
    assert waits_for(array, other, files, other_store.close).computed == COUNT


# --- photos that cannot be computed


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_unreadable_photos_are_named_and_the_others_computed(
    array: FeatureArray, other: FeatureArray, files: dict[str, Path], tmp_path: Path, batch_size: int
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    cut, text, empty = (tmp_path / name for name in ("cut.jpg", "text.jpg", "empty.jpg"))
    Image.fromarray(noise).save(cut)
    cut.write_bytes(cut.read_bytes()[:-500])
    text.write_text("<html>not found</html>")
    empty.write_bytes(b"")
    bad = {digest(path): path for path in (cut, text, empty)}
    engine = ColourEngine(batch_size)
    counts: list[int] = []
    done = run(array, {**dict(list(files.items())[:5]), **bad, **files}, engine, progress=counts.append)
    assert done.computed == sum(engine.batches) == COUNT
    assert done.unreadable.keys() == bad.keys()
    assert "truncated" in done.unreadable[digest(cut)]
    assert done.unreadable[digest(text)] == "not an image"
    assert done.unreadable[digest(empty)] == "the file is empty"
    assert sum(counts) == COUNT + 3
    assert array.missing([*files, *bad]) == list(bad)
    assert is_free(other, list(bad))


def change(path: Path) -> None:
    paint(path, (200, 200, 200))


@pytest.mark.parametrize(("damage", "said"), [(change, "has changed"), (Path.unlink, "can no longer be read")])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_photo_that_changed_after_it_was_indexed(
    array: FeatureArray,
    other: FeatureArray,
    files: dict[str, Path],
    damage: Callable[[Path], None],
    said: str,
    workers: int,
) -> None:
    photo, path = list(files.items())[-1]
    damage(path)
    with pytest.raises(DataError, match=said) as caught:
        run(array, files, ColourEngine(batch_size=1, workers=workers))
    assert str(path) in str(caught.value)
    missing = array.missing(list(files))
    assert photo in missing
    assert is_free(other, missing)
    # The last one in order: by then the others were under way.
    assert len(missing) <= workers


# --- features that cannot be kept


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk(
    array: FeatureArray, other: FeatureArray, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    publish, counter = FeatureArray.publish, itertools.count()

    def full(self: FeatureArray, photos: Sequence[str], features: np.ndarray) -> None:
        if next(counter) >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        publish(self, photos, features)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureArray, "publish", full)
        with pytest.raises(CacheError, match="No space left on device") as caught:
            run(array, files, ColourEngine(batch_size=2, workers=workers))
    assert "Those computed before are kept" in str(caught.value)
    missing = array.missing(list(files))
    assert len(missing) == COUNT - 4
    assert is_free(other, missing)
    assert run(array, files).computed == COUNT - 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_finite(
    array: FeatureArray, other: FeatureArray, files: dict[str, Path], value: float
) -> None:
    def spoil(features: Tensor) -> Tensor:
        features[-1, 1] = value
        return features

    with pytest.raises(DataError, match="mean colour") as caught:
        run(array, files, ColourEngine(after=spoil))
    assert "features.precision=fp32" in str(caught.value)
    assert array.missing(list(files)) == list(files)
    assert is_free(other, list(files))


# --- the speed


def test_the_rate_counts_whole_passes_over_all_photos(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.25, 0.75, 1.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    engine = ColourEngine(batch_size=4, workers=2)
    assert photos_per_second(engine, TRANSFORM, list(files.values())) == 2 * COUNT / 1.5
    # A first batch for each thread warms it up.
    assert sorted(engine.batches) == sorted(2 * [4] + 2 * [4, 4, 3])

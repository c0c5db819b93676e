"""The queue before the workers: what is batched together, what is refused, and what nobody waits for any more."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest

from dogbreeds.data.images import UnreadableImageError
from dogbreeds.package.messages import Answer, HttpError, Prediction
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve.batching import Batcher, Found

PATIENCE = 90.0


@dataclass
class Engine:
    name: str = "torch"
    batch_size: int = 4
    workers: int = 1


class Gated:
    """A predictor that answers each photo with its own text, as soon as the gate is open."""

    def __init__(self, batch_size: int = 4, workers: int = 1) -> None:
        self.engine = Engine(batch_size=batch_size, workers=workers)
        self.batches: list[list[bytes]] = []
        self.gate = threading.Event()
        self.taken = threading.Semaphore(0)

    def warm_up(self) -> None:
        """Nothing is cold."""

    def predict_each(self, contents: Sequence[bytes]) -> list[Found]:
        self.batches.append(list(contents))
        self.taken.release()
        assert self.gate.wait(PATIENCE)
        if b"poison" in contents:
            raise ValueError("a photo that nothing was prepared for")
        return [UnreadableImageError("no photo") if one == b"bad" else answer(one) for one in contents]


def answer(photo: bytes) -> Answer:
    return Answer([Prediction(photo.decode(), 0, 1.0)])


@asynccontextmanager
async def started(
    predictor: Any, max_waiting: int = 8, timeout: float = PATIENCE, on_batch: Callable[[int], object] = id
) -> AsyncIterator[Batcher]:
    batcher = Batcher(cast(Predictor, predictor), max_waiting=max_waiting, timeout=timeout, on_batch=on_batch)
    batcher.start()
    try:
        await until(lambda: batcher.unavailable is None)
        yield batcher
    finally:
        predictor.gate.set()
        await asyncio.to_thread(batcher.close)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def taken(predictor: Gated) -> None:
    assert await asyncio.to_thread(predictor.taken.acquire, timeout=PATIENCE)


def test_a_busy_lane_makes_batches_and_an_idle_one_takes_what_is_there() -> None:
    predictor, sizes = Gated(), []

    async def scenario() -> None:
        async with started(predictor, on_batch=sizes.append) as batcher:
            futures = [batcher.submit([b"0"])]
            await taken(predictor)
            assert (batcher.busy, batcher.waiting) == (1, 0)
            futures += [batcher.submit([str(number).encode()]) for number in range(1, 7)]
            assert batcher.waiting == 6
            predictor.gate.set()
            assert [found for (found,) in await asyncio.gather(*futures)] == [
                answer(str(number).encode()) for number in range(7)
            ]
            assert (batcher.busy, batcher.waiting) == (0, 0)

    asyncio.run(scenario())
    assert predictor.batches == [[b"0"], [b"1", b"2", b"3", b"4"], [b"5", b"6"]]
    assert sizes == [1, 4, 2]


def test_photos_of_a_request_are_shared_by_workers_and_answered_in_order() -> None:
    predictor = Gated(batch_size=1, workers=2)

    async def scenario() -> None:
        async with started(predictor) as batcher:
            future = batcher.submit([b"a", b"b", b"c", b"d", b"e"])
            for _ in range(3):
                await taken(predictor)
            # One lane more than the engine has streams.
            assert (batcher.busy, batcher.waiting) == (3, 0)
            assert sorted(map(len, predictor.batches)) == [1, 2, 2]
            predictor.gate.set()
            assert await future == [answer(photo) for photo in (b"a", b"b", b"c", b"d", b"e")]

    asyncio.run(scenario())


def test_photos_that_do_not_fit_are_refused_together() -> None:
    predictor = Gated()

    async def scenario() -> None:
        async with started(predictor, max_waiting=5) as batcher:
            first = batcher.submit([b"0"])
            await taken(predictor)
            assert batcher.retry_after == 1
            second = batcher.submit([b"1", b"2", b"3"])
            with pytest.raises(HttpError, match=r"The queue is full \(3 photos\)") as caught:
                batcher.submit([b"4", b"5", b"6"])
            assert (caught.value.status, caught.value.code) == (503, "busy")
            assert batcher.waiting == 3
            third = batcher.submit([b"7", b"8"])
            predictor.gate.set()
            assert await first == [answer(b"0")]
            assert len(await second) == 3
            assert len(await third) == 2

    asyncio.run(scenario())
    assert [photo for batch in predictor.batches for photo in batch] == [b"0", b"1", b"2", b"3", b"7", b"8"]


def test_a_bad_photo_harms_no_other() -> None:
    predictor = Gated()

    async def scenario() -> None:
        async with started(predictor) as batcher:
            futures = [batcher.submit([b"0"])]
            await taken(predictor)
            futures += [batcher.submit([b"good"]), batcher.submit([b"bad"]), batcher.submit([b"fine"])]
            predictor.gate.set()
            answers = await asyncio.gather(*futures)
            assert answers[1:4:2] == [[answer(b"good")], [answer(b"fine")]]
            assert isinstance(answers[2][0], UnreadableImageError)

    asyncio.run(scenario())
    assert predictor.batches[1] == [b"good", b"bad", b"fine"]


def test_a_failing_batch_is_told_to_its_requests_and_the_lane_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    predictor = Gated(batch_size=2)

    async def scenario() -> None:
        async with started(predictor) as batcher:
            first = batcher.submit([b"0"])
            await taken(predictor)
            # The second request is computed in two batches, of which one fails.
            futures = [batcher.submit([b"1"]), batcher.submit([b"poison", b"2", b"3"]), batcher.submit([b"4"])]
            predictor.gate.set()
            assert await first == [answer(b"0")]
            for future in futures[:2]:
                with pytest.raises(HttpError) as caught:
                    await future
                assert (caught.value.status, caught.value.code) == (500, "failed")
            assert await futures[2] == [answer(b"4")]
            assert await batcher.submit([b"5"]) == [answer(b"5")]
            assert batcher.unavailable is None

    asyncio.run(scenario())
    assert "a photo that nothing was prepared for" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("end", ["cancelled", "refused"])
def test_what_nobody_waits_for_is_not_computed(end: str) -> None:
    predictor = Gated()

    async def scenario() -> None:
        async with started(predictor, max_waiting=4) as batcher:
            first = batcher.submit([b"0"])
            await taken(predictor)
            gone = batcher.submit([b"gone", b"gone too"])
            last = batcher.submit([b"1", b"2"])
            if end == "cancelled":
                gone.cancel()
            else:
                gone.set_exception(HttpError(503, "busy", "There was no answer."))
                with pytest.raises(HttpError):
                    await gone
            await until(lambda: batcher.waiting == 2)
            # There is room again.
            newest = batcher.submit([b"3", b"4"])
            predictor.gate.set()
            await asyncio.gather(first, last, newest)

    asyncio.run(scenario())
    assert predictor.batches == [[b"0"], [b"1", b"2", b"3", b"4"]]


def test_an_answer_that_comes_too_late_is_thrown_away() -> None:
    predictor = Gated()

    async def scenario() -> None:
        async with started(predictor) as batcher:
            gone = batcher.submit([b"0"])
            await taken(predictor)
            gone.cancel()
            predictor.gate.set()
            assert await batcher.submit([b"1"]) == [answer(b"1")]

    asyncio.run(scenario())


def test_before_the_engine_runs_nothing_is_taken() -> None:
    class Slow(Gated):
        def warm_up(self) -> None:
            assert self.gate.wait(PATIENCE)

    predictor = Slow()

    async def scenario() -> None:
        batcher = Batcher(cast(Predictor, predictor), max_waiting=8, timeout=PATIENCE, on_batch=id)
        batcher.start()
        with pytest.raises(HttpError) as caught:
            batcher.submit([b"0"])
        assert (caught.value.status, caught.value.code) == (503, "loading")
        predictor.gate.set()
        await until(lambda: batcher.unavailable is None)
        assert await batcher.submit([b"0"]) == [answer(b"0")]
        await asyncio.to_thread(batcher.close)

    asyncio.run(scenario())


def test_an_engine_that_does_not_start_is_dead(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Gated):
        def warm_up(self) -> None:
            raise RuntimeError("no memory on the device")

    async def scenario() -> None:
        batcher = Batcher(cast(Predictor, Broken()), max_waiting=8, timeout=PATIENCE, on_batch=id)
        batcher.start()
        await until(lambda: batcher.unavailable is not None and batcher.unavailable.code == "dead")
        with pytest.raises(HttpError) as caught:
            batcher.submit([b"0"])
        assert caught.value.status == 500
        await asyncio.to_thread(batcher.close)

    asyncio.run(scenario())
    assert "no memory on the device" in caplog.text


def test_a_stuck_lane_is_dead() -> None:
    predictor = Gated()

    async def scenario() -> None:
        async with started(predictor, timeout=0.05) as batcher:
            future = batcher.submit([b"0"])
            await until(lambda: batcher.unavailable is not None)
            assert batcher.unavailable is not None
            assert (batcher.unavailable.status, batcher.unavailable.code) == (500, "dead")
            predictor.gate.set()
            await future
            await until(lambda: batcher.unavailable is None)

    asyncio.run(scenario())


def test_closing_answers_what_was_taken_and_refuses_the_rest() -> None:
    predictor, before = Gated(batch_size=1), threading.enumerate()

    async def scenario() -> None:
        async with started(predictor) as batcher:
            futures = [batcher.submit([str(number).encode()]) for number in range(4)]
            await taken(predictor)
            closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
            await until(lambda: batcher.unavailable is not None)
            with pytest.raises(HttpError) as caught:
                batcher.submit([b"late"])
            assert (caught.value.status, caught.value.code) == (503, "draining")
            predictor.gate.set()
            assert len(await asyncio.gather(*futures)) == 4
            await closing

    asyncio.run(scenario())
    lanes = [thread for thread in threading.enumerate() if thread.name.startswith("worker-")]
    assert not [lane for lane in lanes if lane not in before]


def test_the_wait_is_estimated_from_the_speed() -> None:
    class Measured(Gated):
        def predict_each(self, contents: Sequence[bytes]) -> list[Found]:
            if contents == [b"slow"]:
                # Five photos per second, at most.
                time.sleep(0.2)
            return super().predict_each(contents)

    predictor = Measured(batch_size=1)
    predictor.gate.set()

    async def scenario() -> None:
        async with started(predictor, max_waiting=1000) as batcher:
            await batcher.submit([b"slow"])
            predictor.gate.clear()
            waiting = batcher.submit([b"0"])
            await until(lambda: batcher.busy == 1)
            many = batcher.submit([b"1"] * 500)
            # 100 seconds, but nobody is asked to wait longer than a minute.
            assert batcher.retry_after == 60
            many.cancel()
            predictor.gate.set()
            await waiting

    asyncio.run(scenario())

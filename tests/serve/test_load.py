"""Clients that never stop, some hostile, and a signal in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest

from dogbreeds.package.messages import as_json
from dogbreeds.package.predictor import Predictor
from tests.package.test_predictor import photo
from tests.serve.conftest import SMALL_LIMITS
from tests.serve.load import hostile_requests, load
from tests.serve.served import served

pytestmark = pytest.mark.ci


def test_many_clients_and_a_signal(tiny_package: Path, tiny_predictor: Predictor) -> None:
    contents = [photo(seed, size=(80, 70), form="JPEG") for seed in range(9)]
    photos = {content: as_json(tiny_predictor.predict([content])[0]) for content in contents}
    with served(tiny_package, *SMALL_LIMITS) as server:
        seen = load(
            server,
            photos,
            hostile_requests(),
            enough=lambda seen: seen.statuses[200] > 100 and seen.hostile[422] > 0,
            clients=16,
            tolerance=2e-3,
        )
    assert seen.wrong == []
    assert seen.unanswered == 0
    assert seen.exit_status == 0
    assert seen.statuses.keys() == {200}
    assert all(status < 500 for status in seen.hostile)


def test_a_queue_that_is_full_refuses_and_answers_the_rest(tiny_package: Path, tiny_predictor: Predictor) -> None:
    content = photo(4, form="JPEG")
    photos = {content: as_json(tiny_predictor.predict([content])[0])}
    with served(tiny_package, "limits.photos=1", "limits.waiting=1", "limits.receive_seconds=2.5") as server:
        both = {200, 503}
        seen = load(
            server,
            photos,
            hostile_requests(),
            enough=lambda seen: both <= seen.statuses.keys(),
            clients=16,
            tolerance=2e-3,
        )
    assert seen.wrong == []
    assert (seen.unanswered, seen.exit_status) == (0, 0)
    assert seen.statuses.keys() == both

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from dogbreeds.errors import PackageError
from dogbreeds.limits import RequestLimits
from dogbreeds.package.messages import HttpError
from dogbreeds.serve.ray_app import Replica, replica_application

pytestmark = pytest.mark.slow

LIMITS = asdict(RequestLimits(10**6, 10**7, 10**6, 4, 8, None, 20.0, 50.0))


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    yield


def test_a_replica_whose_engine_is_dead_is_replaced(tiny_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Classifier(Replica):
        package = tiny_package

    replica = Classifier(LIMITS)
    batcher = replica_application().batcher
    # It is being loaded.
    replica.check_health()
    batcher.start().join()
    replica.check_health()
    monkeypatch.setattr(type(batcher), "unavailable", HttpError(500, "dead", "It is stuck."))
    with pytest.raises(RuntimeError, match="It is stuck"):
        replica.check_health()
    monkeypatch.undo()
    asyncio.run(asyncio.to_thread(batcher.close))


def test_limits_and_packages_that_cannot_be_used(tiny_package: Path, tmp_path: Path) -> None:
    class Classifier(Replica):
        package = tmp_path

    with pytest.raises(TypeError, match="photo"):
        Classifier(LIMITS | {"photo": 3})
    with pytest.raises(PackageError, match="is not a model package"):
        Classifier(LIMITS)

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dogbreeds.features.store.store import FeatureStore
from tests.features.store.filling import OpenStore


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same store again and again, each time as another owner."""
    with ExitStack() as stack:

        def opened(max_bytes: float = 1e9) -> FeatureStore:
            return stack.enter_context(FeatureStore(tmp_path / "store", max_bytes))

        yield opened


@pytest.fixture
def store(open_store: OpenStore) -> FeatureStore:
    return open_store()

"""What the tests of the pass share: a store of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dogbreeds.features.store.store import FeatureStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    with FeatureStore(tmp_path / "store", 1e9) as opened:
        yield opened

"""The case `serve` starts a server, asks it, and compares it with the predictor."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import serve
from benchmarks.settings import BenchSettings

from tests.conftest import Compose


@pytest.mark.ci
def test_serve_case(config: Compose, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "_BACKBONES", ("squeezenet1_1",))
    monkeypatch.setattr(serve, "_MANY", {"squeezenet1_1": 64})
    monkeypatch.setattr(serve, "_ALONE", 20)
    section = serve.run(BenchSettings(config(), sample, count=30, rounds=2, weights=None, backbone="squeezenet1_1"))
    assert [row[1] for row in section.rows] == [
        "predictor, batches",
        "server, 16 clients",
        "predictor, one by one",
        "server, one client",
    ]
    assert all(value > 0 for value in section.numbers.values())
    assert len(section.numbers) == 4

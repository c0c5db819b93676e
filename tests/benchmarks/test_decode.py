"""The case `decode` compares two ways to the same pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import decode
from benchmarks.settings import BenchSettings
from torch import Tensor

from tests.conftest import Compose


@pytest.mark.ci
def test_decode_case(config: Compose, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_PHOTOS", 4)
    monkeypatch.setattr(decode, "_LARGE_PHOTOS", 1)
    monkeypatch.setattr(decode, "_SIDES", (None, 768))
    section = decode.run(BenchSettings(config(), sample, count=30, rounds=1, weights=None, backbone="squeezenet1_1"))
    assert {row[0] for row in section.rows} == {"own", "768"}
    assert all(value > 0 for value in section.numbers.values())
    steps = decode._steps()
    content = next(sample.rglob("*.jpg")).read_bytes()
    for name in ("bilinear", "bicubic"):
        ours, whole = steps[name](content), steps[f"whole, {name}"](content)
        assert isinstance(ours, Tensor) and isinstance(whole, Tensor)
        assert float((ours.int() - whole.int()).abs().float().mean()) < 0.5

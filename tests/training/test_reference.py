"""Runs of more photos than memory holds: read from their files, with a reference on a sample of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from dogbreeds.model import rows
from dogbreeds.training import features, reference
from dogbreeds.training.features import Features
from dogbreeds.training.reference import sample
from dogbreeds.training.run import train
from tests.conftest import Compose


def test_a_sample_has_its_share_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.tensor([0] * 600 + [1] * 300 + [2] * 12)[torch.randperm(912)]
    split = Features((torch.zeros(912, 4),), labels)
    assert torch.equal(sample(split), torch.arange(912))
    monkeypatch.setattr(reference, "_NUMBERS", 304 * 4)
    found = sample(split)
    assert labels[found].bincount().tolist() == [200, 100, 10]
    assert torch.equal(found, sample(split)) and (found.diff() > 0).all()
    # Fewer, where there are many classes.
    monkeypatch.setattr(reference, "_CLASSES", 1)
    assert labels[sample(split)].bincount().tolist() == [66, 33, 10]


@pytest.mark.ci
def test_photos_that_stay_in_their_files(
    config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Give the same run; on a sample of them the reference is another, and all that is read says so."""
    caplog.set_level(logging.INFO, "dogbreeds")
    whole = train(config())
    monkeypatch.setattr(features, "_IN_MEMORY", 0)
    monkeypatch.setattr(rows, "_BLOCK", 7)
    filed = train(config(f"cache.dir={tmp_path / 'other'}"))
    for name in ("test/loss", "val/loss", "reference/val_loss", "reference/test_accuracy"):
        assert filed.metrics[name] == pytest.approx(whole.metrics[name], rel=1e-3), name
    assert whole.metrics["reference/photos"] == filed.metrics["reference/photos"] == 36
    listed = [(one.directory / "audit.csv").read_text().splitlines() for one in (whole, filed)]
    assert [row.split(",")[:4] for row in listed[0]] == [row.split(",")[:4] for row in listed[1]]
    assert "training photos" not in whole.summary()

    monkeypatch.setattr(reference, "_NUMBERS", 12 * 512)
    monkeypatch.setattr(reference, "_OF_EACH_CLASS", 2)
    sampled = train(config(f"cache.dir={tmp_path / 'third'}", "optimizer=exact", "weight_decay=0.03"))
    assert sampled.metrics["reference/photos"] == 12
    assert ", on 12 of 36 training photos)" in sampled.summary()
    assert ", on 12 of 36 training photos" in (sampled.directory / "report.html").read_text()
    assert "of the labels those of 12 of 36 photos were judged" in caplog.text

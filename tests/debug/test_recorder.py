"""The recorder, on real training of a small head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from benchmarks.plain_loop import Size, module, vectors
from torch import nn

from dogbreeds.debug.record import EVAL, TRAIN, Record, read_record
from dogbreeds.debug.recorder import Recorder
from dogbreeds.model.classifier import BreedClassifier
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.network import Network
from tests.conftest import Compose

SIZE = Size(train=60, valid=20, width=8, classes=3)


def trained(config: Compose, directory: Path, *, epochs: int, kind: str = "linear", every: int = 10) -> Recorder:
    settings = replace(config(), batch_size=10, epochs=epochs, lr=0.01)
    splits = vectors(SIZE)
    torch.manual_seed(0)
    head = Head(HeadShape(kind, SIZE.width, SIZE.classes, hidden=(6,) if kind == "mlp" else ()))
    head.initialise(splits["train"].tensor)
    model = BreedClassifier(Network(nn.Sequential(), nn.Sequential(), head), lr=0.001)
    debugger = replace(settings.debugger, train_every=every, eval_every=1, flush_every=5)
    recorder = Recorder(directory, Record(), debugger)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=module(settings, splits, SIZE))
    return recorder


def test_a_long_run_is_recorded_on_the_schedule(config: Compose, tmp_path: Path) -> None:
    record = trained(config, tmp_path, epochs=20).record
    assert [row.step for row in record.of(TRAIN)] == list(range(0, 120, 10))
    assert [row.step for row in record.of(EVAL)] == list(range(6, 121, 6))
    assert [row.epoch for row in record.of(EVAL)] == list(range(1, 21))
    assert read_record(tmp_path).rows == record.rows
    losses = [loss for _, loss in record.scalar("loss")]
    assert len(set(losses)) == len(losses)
    assert all(norm > 0 for _, norm in record.scalar("gradient_norm"))
    assert {rate for _, rate in record.scalar("lr")} == {0.001}


def test_a_run_of_any_length_keeps_a_bounded_record(
    config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dogbreeds.debug.recorder._MAX_STATISTICS", 60)
    rows = trained(config, tmp_path, epochs=20, every=1).record.of(TRAIN)
    assert len(rows) == 10 and sum(len(row.tensors) for row in rows) <= 60


def test_a_short_run_is_recorded_at_every_step(config: Compose, tmp_path: Path) -> None:
    record = trained(config, tmp_path, epochs=2).record
    assert [row.step for row in record.of(TRAIN)] == list(range(12))


def test_what_is_kept_of_a_step(config: Compose, tmp_path: Path) -> None:
    record = trained(config, tmp_path, epochs=1, kind="mlp").record
    first, second = record.of(TRAIN)[:2]
    layers = [name for name in first.tensors if name.startswith("weight/")]
    kinds = {name.partition("/")[0] for name in first.tensors}
    assert kinds == {"weight", "gradient", "update", "activation", "activity"}
    assert any(name.startswith("activation/head.layers") for name in first.tensors)
    for name in layers:
        update = first.tensors[name.replace("weight/", "update/", 1)]
        # The first step of Adam is the learning rate for every weight that has a gradient.
        assert max(abs(update.minimum), abs(update.maximum)) == pytest.approx(0.001, rel=1e-2)
        moved = second.tensors[name].mean - first.tensors[name].mean
        assert moved == pytest.approx(update.mean, abs=1e-6)


def test_recording_changes_nothing(config: Compose, tmp_path: Path) -> None:
    losses = []
    for every in (1, 1000):
        (tmp_path / str(every)).mkdir()
        record = trained(config, tmp_path / str(every), epochs=20, kind="mlp", every=every).record
        losses.append(record.scalar("loss", EVAL))
    assert losses[0] == losses[1]

"""Case `head`: the training of a head through Lightning, with all that a run keeps, against a plain torch loop."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dogbreeds.bench.settings import BenchSettings
from dogbreeds.bench.table import Section
from dogbreeds.bench.timing import paired, ratio, seconds_of
from dogbreeds.data.datamodule import BreedDataModule, Features
from dogbreeds.data.folders import BreedFolders
from dogbreeds.fitting import fit, quieten
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.package import Network
from dogbreeds.schema import TrainConfig
from dogbreeds.threads import compute_threads

_TRAIN, _VALID, _WIDTH, _CLASSES = 9025, 1000, 2048, 10


def run(settings: BenchSettings) -> Section:
    """Times ten epochs at batch 256 over 9,025 vectors of 2,048 numbers, validation after each epoch included."""
    config = replace(settings.train, epochs=10, batch_size=256, lr=0.001, patience=10)
    splits = _vectors()

    def ours() -> float:
        with tempfile.TemporaryDirectory() as directory:
            data = _module(config, splits)
            network = Network(nn.Sequential(), nn.Sequential(), _head(splits))
            here = replace(config, run_dir=directory)
            return seconds_of(lambda: fit(here, data, network, "fp32", None))

    quieten()
    logging.getLogger("dogbreeds").setLevel(logging.WARNING)
    loop = _loop(config, splits)
    with compute_threads(1):
        ours(), loop()
    times = paired({"ours": ours, "loop": loop}, settings.rounds)
    logging.getLogger("dogbreeds").setLevel(logging.NOTSET)
    factor = ratio(times["ours"], times["loop"])
    return Section(
        title="head",
        text=f"Ten epochs over {_TRAIN:,} x {_WIDTH:,} vectors, batch 256, {_VALID:,} validation vectors after each "
        "epoch. Ours writes history, checkpoints and TensorBoard events as any run does.",
        columns=("", "seconds (median)", "spread", "against the loop"),
        rows=(
            ("plain torch loop", f"{times['loop'].median:.2f}", times["loop"].spread, "1"),
            ("ours, through Lightning", f"{times['ours'].median:.2f}", times["ours"].spread, f"{factor:.2f}"),
        ),
        numbers={"loop_seconds": times["loop"].median, "ours_seconds": times["ours"].median, "ratio": factor},
    )


def _vectors() -> dict[str, Features]:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(_WIDTH, _CLASSES, generator=generator)
    splits = {}
    for name, count in (("train", _TRAIN), ("valid", _VALID)):
        values = torch.randn(count, _WIDTH, generator=generator).relu_()
        noise = 10 * torch.randn(count, _CLASSES, generator=generator)
        splits[name] = Features((values,), (values @ directions + noise).argmax(dim=1))
    return splits


def _head(splits: dict[str, Features]) -> Head:
    head = Head(HeadShape("linear", _WIDTH, _CLASSES))
    head.initialise(splits["train"].tensor)
    return head


def _module(config: TrainConfig, splits: dict[str, Features]) -> BreedDataModule:
    data = BreedDataModule(
        Path(),
        lambda paths, workers: ({}, {}),
        batch_size=config.batch_size,
        seed=config.seed,
        on_bad_image="stop",
        split_seed=0,
        workers=0,
        one_batch=False,
    )
    classes = tuple(str(number) for number in range(_CLASSES))
    data.folders = BreedFolders(Path(), classes, {}, (), (), drawn=False)
    data.inputs = splits
    return data


def _loop(config: TrainConfig, splits: dict[str, Features]) -> Callable[[], float]:
    """The same arithmetic by hand: shuffle, forward, loss, backward, Adam; validation loss and accuracy."""
    train, valid = (splits[name] for name in ("train", "valid"))

    def epochs(head: Head) -> None:
        optimizer = torch.optim.Adam(head.parameters(), lr=config.lr)
        for _ in range(config.epochs):
            for rows in torch.randperm(_TRAIN).split(config.batch_size):
                loss = nn.functional.cross_entropy(head(train.tensor[rows]), train.labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                _validate(head, valid)

    def timed() -> float:
        head = _head(splits)
        with compute_threads(1):
            return seconds_of(lambda: epochs(head))

    return timed


def _validate(head: Head, valid: Features) -> tuple[Tensor, Tensor]:
    logits = head(valid.tensor)
    correct = (logits.argmax(dim=1) == valid.labels).float().mean()
    return nn.functional.cross_entropy(logits, valid.labels), correct

"""The arithmetic of training a head, by hand: what Lightning and all that a run keeps are measured against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.timing import seconds_of
from dogbreeds.data.folders import BreedFolders
from dogbreeds.machine import compute_threads
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.schema import TrainConfig
from dogbreeds.training.datamodule import BreedDataModule
from dogbreeds.training.features import Features, RunFeatures


@dataclass(frozen=True)
class Size:
    """Numbers of training and validation photos, of features of a photo, and of breeds."""

    train: int
    valid: int
    width: int
    classes: int


def vectors(size: Size) -> dict[str, Features]:
    """Draws features that can be told apart, but not all."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(size.width, size.classes, generator=generator)
    splits = {}
    for name, count in (("train", size.train), ("valid", size.valid)):
        values = torch.randn(count, size.width, generator=generator).relu_()
        noise = 10 * torch.randn(count, size.classes, generator=generator)
        splits[name] = Features((values,), (values @ directions + noise).argmax(dim=1))
    return splits


def new_head(splits: dict[str, Features], size: Size) -> Head:
    """Returns an untrained linear head."""
    head = Head(HeadShape("linear", size.width, size.classes))
    head.initialise(splits["train"].tensor)
    return head


def module(config: TrainConfig, splits: dict[str, Features], size: Size) -> BreedDataModule:
    """Returns the data module of drawn features, without photos."""
    data = BreedDataModule(Path(), batch_size=config.batch_size, seed=config.seed)
    classes = tuple(str(number) for number in range(size.classes))
    data.folders = BreedFolders(Path(), classes, {}, (), (), (), drawn=False)
    data.features = RunFeatures(splits, splits, "torch", "fp32", computed=0, reused=0, weights="")
    return data


def plain_loop(config: TrainConfig, splits: dict[str, Features], size: Size) -> Callable[[], float]:
    """Returns what trains a head: shuffle, forward, loss, backward, Adam; validation loss and accuracy.

    Returns:
        A function that does it once and returns the seconds.
    """
    train, valid = (splits[name] for name in ("train", "valid"))

    def epochs(head: Head) -> None:
        optimizer = torch.optim.Adam(head.parameters(), lr=config.lr)
        for _ in range(config.epochs):
            for rows in torch.randperm(size.train).split(config.batch_size):
                loss = nn.functional.cross_entropy(head(train.tensor[rows]), train.labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                _validate(head, valid)

    def timed() -> float:
        head = new_head(splits, size)
        with compute_threads(1):
            return seconds_of(lambda: epochs(head))

    return timed


def _validate(head: Head, valid: Features) -> tuple[Tensor, Tensor]:
    logits = head(valid.tensor)
    correct = (logits.argmax(dim=1) == valid.labels).float().mean()
    return nn.functional.cross_entropy(logits, valid.labels), correct

"""Real fits of a small classifier, and what a plain recorder saw of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from dogbreeds.model.classifier import BreedClassifier
from dogbreeds.model.head import Head, HeadShape

WIDTH, CLASSES, BATCH = 8, 3, 10
#: Optimizer steps of an epoch; validation batches of an epoch.
STEPS, BATCHES = 23, 2


@dataclass
class Seen(pl.Callback):
    """What a plain recorder sees, step by step: losses, and weights and gradients as they were before the update."""

    losses: dict[str, list[float]] = field(default_factory=lambda: {"TRAIN": [], "EVAL": []})
    weights: dict[str, list[np.ndarray]] = field(default_factory=dict)
    gradients: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Optimizer) -> None:
        assert isinstance(module, BreedClassifier)
        self.losses["TRAIN"].append(float(module.train_loss))
        for name, parameter in module.named_parameters():
            if parameter.grad is not None:
                self.weights.setdefault(name, []).append(parameter.detach().numpy().copy())
                self.gradients.setdefault(name, []).append(parameter.grad.numpy().copy())

    def on_validation_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *rest: Any
    ) -> None:
        self.losses["EVAL"].append(float(outputs))


class StopsAt(pl.Callback):
    """Raises before an optimizer step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Optimizer) -> None:
        if trainer.global_step == self.step:
            raise ArithmeticError("stopped")


def classifier(kind: str = "mlp", *, tail: bool = False) -> BreedClassifier:
    """Returns the same new classifier each time; its trunk and tail are of one layer."""
    torch.manual_seed(0)
    head = Head(HeadShape(kind, WIDTH, CLASSES, hidden=(6,) if kind == "mlp" else ()))
    head.initialise(_features(40)[0])
    layers = [("layer4", nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()))] if tail else []
    # The class Network comes with torchvision, which this environment may lack.
    network: Any = SimpleNamespace(
        trunk=nn.Sequential(nn.Linear(4, WIDTH)).requires_grad_(False),
        tail=nn.Sequential(OrderedDict(layers)),
        head=head,
        draws=False,
    )
    return BreedClassifier(network, lr=0.01, tail_lr=0.001)


def fit(
    module: BreedClassifier,
    callbacks: Sequence[pl.Callback],
    *,
    epochs: int = 2,
    resume: Path | None = None,
    precision: Any = "32-true",
    strategy: str = "auto",
) -> pl.Trainer:
    """Trains on batches that are there already."""
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        strategy=strategy,
        precision=precision,
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    inputs, labels = _features(STEPS * BATCH)
    batches = list(zip(inputs.split(BATCH), labels.split(BATCH), strict=True))
    loaders = [DataLoader(part, batch_size=None) for part in (batches, batches[:BATCHES])]  # type: ignore[arg-type]
    trainer.fit(module, *loaders, ckpt_path=resume, weights_only=True)
    return trainer


def _features(photos: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(photos, WIDTH, generator=generator)
    return inputs, torch.randint(0, CLASSES, (photos,), generator=generator)

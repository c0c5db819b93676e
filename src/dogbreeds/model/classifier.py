"""The LightningModule: a frozen trunk, an optional trainable tail, a new head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

# Only backbones need torchvision; what trains on features does without.
if TYPE_CHECKING:
    from dogbreeds.model.network import Network

Batch = tuple[Tensor, Tensor]


class StepObserver(Protocol):
    """Who is told how far a training step has come."""

    def lap(self, part: str) -> None:
        """A part of the step has ended: `data`, `move`, `forward`, `backward`, `record`, `optimizer`."""


class BreedClassifier(pl.LightningModule):
    """Trains `head(tail(trunk(images)))` with the trunk frozen.

    A batch of uint8 images goes through the trunk; a batch of features enters behind it.

    Attributes:
        step_loss: The loss of the step whose gradients are there, for callbacks that look at each step.
        observers: Told of each part of a training step; callbacks add themselves.
    """

    step_loss: Tensor

    # Checkpoints hold no trunk, so loading one must not ask for it.
    strict_loading = False
    automatic_optimization = False

    def __init__(
        self,
        network: Network,
        *,
        classes: int,
        learning_rate: float,
        tail_learning_rate: float,
        optimizer: str,
        weight_decay: float,
        schedule: str,
        class_weights: Tensor | None,
        trunk_precision: str,
        steps: int,
        seed: int,
    ) -> None:
        """Takes the network and how to train it.

        Args:
            network: Trunk, tail and head; the head is initialised already.
            classes: Number of breeds.
            learning_rate: Of the head.
            tail_learning_rate: Of what is unfrozen.
            optimizer: `adam`, `adamw` or `sgd` (with Nesterov momentum 0.9).
            weight_decay: L2 strength as the optimizer understands it.
            schedule: `constant`, or `cosine` to zero over all steps.
            class_weights: float32 (classes,) for the loss, or None.
            trunk_precision: `fp32` or `bf16`, for batches of images.
            steps: Optimizer steps of the whole run, over which a schedule stretches.
            seed: Decides dropout, anew in each step.
        """
        super().__init__()
        self.trunk, self.tail, self.head = network.trunk, network.tail, network.head
        self.learning_rate, self.tail_learning_rate = learning_rate, tail_learning_rate
        self.optimizer, self.weight_decay, self.schedule = optimizer, weight_decay, schedule
        self.trunk_precision, self.steps, self.seed = trunk_precision, steps, seed
        self.observers: list[StepObserver] = []
        self.loss = nn.CrossEntropyLoss(weight=class_weights)
        self._draws = network.draws
        self.val_metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(classes, average="micro"),
                "top5_accuracy": MulticlassAccuracy(classes, average="micro", top_k=min(5, classes)),
                "macro_f1": MulticlassF1Score(classes, average="macro"),
            },
            prefix="val/",
        )

    def train(self, mode: bool = True) -> BreedClassifier:
        """Switches tail and head; the trunk stays in evaluation mode, so BatchNorm learns nothing."""
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, batch: Tensor) -> Tensor:
        """Returns logits (N, classes) for uint8 images (N, 3, H, W) or what the trunk made of them."""
        return self.head(self.tail(self._trunk(batch) if batch.dtype == torch.uint8 else batch))  # type: ignore[no-any-return]

    @torch.no_grad()
    def _trunk(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.trunk_precision == "bf16"):
            features: Tensor = self.trunk(images.contiguous(memory_format=torch.channels_last))
        return features.float()

    def training_step(self, batches: Iterable[Batch], group: int) -> None:
        """Takes one optimizer step for each batch of a group.

        Lightning's own work per step costs more than a linear head does, so it is done once for several steps.
        """
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        losses, correct, photos = 0.0, 0, 0
        for inputs, labels in self._on_device(batches):
            if self._draws:
                # Dropout is drawn per step, so that a resumed run draws what an uninterrupted one would.
                torch.manual_seed(self.seed * 1_000_003 + self.global_step)
            logits = self(inputs)
            loss = self.loss(logits, labels)
            self._lap("forward")
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.step_loss = loss.detach()
            self._lap("backward")
            optimizer.step()
            if isinstance(scheduler, LRScheduler):
                scheduler.step()
            self._lap("optimizer")
            losses = losses + loss.detach() * len(labels)
            correct = correct + (logits.detach().argmax(dim=1) == labels).sum()
            photos += len(labels)
        for name, total in (("loss", losses), ("accuracy", correct)):
            self.log(f"train/{name}", total / photos, on_step=False, on_epoch=True, batch_size=photos, sync_dist=True)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Called after the callbacks that look at the gradients."""
        self._lap("record")

    def _lap(self, part: str) -> None:
        if self.training:
            for observer in self.observers:
                observer.lap(part)

    def validation_step(self, batches: Iterable[Batch], group: int) -> Tensor:
        """Logs the unweighted loss and the metrics of a group of batches, and returns its mean loss."""
        losses, photos = torch.zeros((), device=self.device), 0
        for inputs, labels in self._on_device(batches):
            logits = self(inputs)
            loss = nn.functional.cross_entropy(logits, labels)
            self.val_metrics.update(logits, labels)
            self.log("val/loss", loss, batch_size=len(labels), sync_dist=True)
            losses += loss * len(labels)
            photos += len(labels)
        self.log_dict(self.val_metrics)
        return losses / photos

    def _on_device(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for inputs, labels in batches:
            self._lap("data")
            moved = inputs.to(self.device), labels.to(self.device)
            self._lap("move")
            yield moved

    def configure_optimizers(self) -> Any:
        """Returns the optimizer of head and tail, with the schedule where there is one."""
        groups = [{"params": list(self.head.parameters()), "lr": self.learning_rate}]
        if any(True for _ in self.tail.parameters()):
            groups.append({"params": list(self.tail.parameters()), "lr": self.tail_learning_rate})
        optimizer = self._optimizer(groups)
        if self.schedule == "constant":
            return optimizer
        steps = self.steps
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}

    def _optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        if self.optimizer == "adam":
            return torch.optim.Adam(groups, weight_decay=self.weight_decay)
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, weight_decay=self.weight_decay)
        return torch.optim.SGD(groups, weight_decay=self.weight_decay, momentum=0.9, nesterov=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves the frozen trunk out: it is in the model package, or where it came from."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if not name.startswith("trunk.")}

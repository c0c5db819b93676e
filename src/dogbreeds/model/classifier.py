"""The LightningModule: what is trained on the features of a frozen trunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from dogbreeds.errors import ConfigError
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.metrics import split_metrics

# Only backbones need torchvision; what trains on features does without.
if TYPE_CHECKING:
    from dogbreeds.model.network import Network

#: Features of photos (N, *shape), float32, and their classes (N,), int64.
Batch = tuple[Tensor, Tensor]


class BreedClassifier(pl.LightningModule):
    """Trains `head(tail(features))` on what the frozen trunk made of the photos.

    Logs loss and accuracy for `train`, and loss, accuracy, top5_accuracy and macro_f1 for `val` and `test`. The
    losses are unweighted cross-entropy, so that they can be compared. `train_loss` is that of the last training batch,
    for callbacks that look at each step.
    """

    train_loss: Tensor

    def __init__(
        self,
        network: Network | None = None,
        *,
        head: Mapping[str, Any] | None = None,
        lr: float = 0.01,
        tail_lr: float = 0.0001,
        optimizer: str = "adam",
        weight_decay: float = 0.0,
        schedule: str = "constant",
        class_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        """Takes a network, as `BreedDataModule.network` makes it, and how to train it.

        Args:
            network: Its tail and its initialised head are trained.
            head: Without a network: the `HeadShape` of a new head, as checkpoints have it.
            lr: Learning rate of the head; `tail_lr` that of the tail.
            optimizer: `adam`, `adamw` or `sgd` (with Nesterov momentum 0.9).
            weight_decay: Strength of the L2 penalty on the weights of the head's last layer, strength/2 * |W|^2 added
                to the mean loss; of a linear head, W acts on normalised features as that of `ExactPath` does. Biases
                have none, nor has the tail: it is pretrained, and zero is no better place for it. `adamw` shrinks the
                same weights by lr * weight_decay in each step instead.
            schedule: `constant`, or `cosine` to zero over all steps of the Trainer.
            class_weights: Weights of the classes in the loss that is minimised.
            seed: Seeds dropout, anew in each step.
        """
        super().__init__()
        if network is None and head is None:
            raise ConfigError("BreedClassifier needs a network or a head.")
        self.save_hyperparameters(ignore=["network", "head"])
        self.head = network.head if network else Head(HeadShape(**head or {}))
        self.tail = network.tail if network else nn.Sequential()
        self.save_hyperparameters({"head": asdict(self.head.shape)})
        self.loss = nn.CrossEntropyLoss(None if class_weights is None else torch.tensor(class_weights))
        self._has_dropout = network.draws if network else self.head.shape.dropout > 0
        metrics = split_metrics(self.head.shape.classes)
        self.val_metrics, self.test_metrics = metrics.clone(prefix="val/"), metrics.clone(prefix="test/")
        self._photos, self._loss_sum, self._correct = 0, torch.zeros(()), torch.zeros(())

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits (N, classes) of features (N, *shape)."""
        return self.head(self.tail(features))  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the loss of a batch, weighted by the class weights."""
        features, labels = batch
        if batch_idx == 0:
            self._photos = 0
            self._loss_sum, self._correct = torch.zeros(2, device=self.device)
        if self._has_dropout:
            # Drawn per step, so that a resumed run draws what an uninterrupted one would.
            step = self.current_epoch * int(self.trainer.num_training_batches) + batch_idx
            torch.manual_seed(self.hparams["seed"] * 1_000_003 + step)
        logits = self(features)
        loss: Tensor = self.loss(logits, labels)
        with torch.no_grad():
            self.train_loss = loss if self.loss.weight is None else nn.functional.cross_entropy(logits, labels)
            self.train_loss = self.train_loss.detach()
            self._photos += len(labels)
            self._loss_sum += self.train_loss * len(labels)
            self._correct += (logits.argmax(dim=1) == labels).sum()
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Logs loss and accuracy of the epoch at its last batch: `log` costs more than the step of a linear head."""
        trainer = self.trainer
        if trainer.is_last_batch or trainer.should_stop or trainer.global_step == trainer.max_steps:
            scores = {"train/loss": self._loss_sum / self._photos, "train/accuracy": self._correct / self._photos}
            self.log_dict(scores, on_step=False, on_epoch=True, batch_size=self._photos, sync_dist=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._scored(batch, "val", self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._scored(batch, "test", self.test_metrics)

    def _scored(self, batch: Batch, split: str, metrics: MetricCollection) -> Tensor:
        features, labels = batch
        logits = self(features)
        loss = nn.functional.cross_entropy(logits, labels)
        metrics.update(logits, labels)
        self.log(f"{split}/loss", loss, batch_size=len(labels), sync_dist=True)
        self.log_dict(metrics)
        return loss

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Tensor:
        """Returns the probabilities of the classes (N, classes)."""
        features = batch if isinstance(batch, Tensor) else batch[0]
        return self(features).softmax(dim=1)  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Any:
        lr, decay = self.hparams["lr"], self.hparams["weight_decay"]
        # The gradient of strength/2 * |gain * W|^2; AdamW's decay is the same for a weight of any scale.
        strength = decay if self.hparams["optimizer"] == "adamw" else decay * self.head.gain**2
        weights = self.head.penalised
        others = [parameter for parameter in self.head.parameters() if parameter is not weights]
        groups = [{"params": [weights], "lr": lr, "weight_decay": strength}, {"params": others, "lr": lr}]
        tail = list(self.tail.parameters())
        if tail:
            groups.append({"params": tail, "lr": self.hparams["tail_lr"]})
        optimizer = self._optimizer(groups)
        if self.hparams["schedule"] == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}

    def _optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        if self.hparams["optimizer"] == "adam":
            return torch.optim.Adam(groups)
        if self.hparams["optimizer"] == "adamw":
            # Its own default is not zero.
            return torch.optim.AdamW(groups, weight_decay=0.0)
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint with a tail where this module has none."""
        trained = any(name.startswith("tail.") for name in checkpoint["state_dict"])
        if trained and not list(self.tail.parameters()):
            said = "This checkpoint has a trained tail: BreedClassifier.load_from_checkpoint(path,"
            raise ConfigError(f"{said} network=data.network()) with the same model.unfreeze.")

"""The textbook: the two classes of the README with a plain Trainer, whose arguments mean what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn

from dogbreeds.errors import ConfigError
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.model.backbones import cut, load_backbone
from dogbreeds.model.classifier import BreedClassifier
from dogbreeds.model.exact import ExactPath
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.network import Network
from dogbreeds.training.datamodule import BreedDataModule

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    with FeatureStore(tmp_path_factory.mktemp("features"), 1e9) as opened:
        yield opened


@pytest.fixture
def data(sample: Path, store: FeatureStore) -> BreedDataModule:
    # 36 training photos: three batches.
    return BreedDataModule(sample, "squeezenet1_1", "random", batch_size=12, store=store)


class Steps(pl.Callback):
    """The norm of the gradients that each optimizer step takes, and the photos of each batch."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.photos: list[int] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        self.norms.append(float(torch.linalg.vector_norm(torch.cat([one.flatten() for one in gradients]))))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.photos.append(len(batch[1]))


def fitted(data: BreedDataModule, place: Path, **arguments: Any) -> tuple[pl.Trainer, BreedClassifier, Steps]:
    steps = Steps()
    given = {"max_epochs": 2, "logger": False, "enable_progress_bar": False, "default_root_dir": place} | arguments
    trainer = pl.Trainer(accelerator="cpu", callbacks=[steps], **given)
    classifier = BreedClassifier(data.network(), lr=0.1)
    trainer.fit(classifier, datamodule=data)
    return trainer, classifier, steps


def test_fit_test_predict_and_load(data: BreedDataModule, tmp_path: Path) -> None:
    trainer, classifier, steps = fitted(data, tmp_path, max_epochs=10, logger=CSVLogger(tmp_path, "csv", "0"))
    assert steps.photos == [12] * 30
    (found,) = trainer.test(classifier, datamodule=data)
    assert found.keys() == {"test/loss", "test/accuracy", "test/top5_accuracy", "test/macro_f1"}
    assert found["test/accuracy"] > 0.4
    batches = trainer.predict(classifier, datamodule=data)
    assert batches is not None
    probabilities = torch.cat([batch for batch in batches if isinstance(batch, Tensor)])
    labels = data.features.inputs["test"].labels
    assert float((probabilities.argmax(dim=1) == labels).float().mean()) == pytest.approx(found["test/accuracy"])
    assert probabilities.sum(dim=1).tolist() == pytest.approx([1.0] * len(labels))
    loaded = BreedClassifier.load_from_checkpoint(trainer.checkpoint_callback.best_model_path, weights_only=True)  # type: ignore[union-attr]
    features = data.features.inputs["test"].tensor
    assert torch.equal(loaded.eval()(features), classifier.eval()(features))
    assert loaded.hparams == classifier.hparams
    assert "lr: 0.1" in (tmp_path / "csv/0/hparams.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "optimizer_steps", "batches"),
    [
        ({}, 6, 6),
        ({"accumulate_grad_batches": 3}, 2, 6),
        ({"limit_train_batches": 2}, 4, 4),
        ({"max_steps": 4}, 4, 4),
        ({"fast_dev_run": True}, 1, 1),
    ],
    ids=str,
)
def test_arguments_of_the_trainer_count_batches(
    arguments: dict[str, Any], optimizer_steps: int, batches: int, data: BreedDataModule, tmp_path: Path
) -> None:
    trainer, _, steps = fitted(data, tmp_path, **arguments)
    assert trainer.global_step == len(steps.norms) == optimizer_steps
    assert len(steps.photos) == batches
    assert {"train/loss", "train/accuracy", "val/loss"} <= trainer.callback_metrics.keys()


def test_gradients_are_clipped(data: BreedDataModule, tmp_path: Path) -> None:
    norms = []

    class Clipped(BreedClassifier):
        def on_before_zero_grad(self, optimizer: Any) -> None:
            gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
            if gradients:
                norms.append(float(torch.linalg.vector_norm(torch.cat([one.flatten() for one in gradients]))))

    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, gradient_clip_val=1e-3, logger=False, enable_progress_bar=False,
        enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(Clipped(data.network(), lr=0.1), datamodule=data)
    assert norms and max(norms) <= 1e-3 * 1.001


def test_the_learning_rate_ends_at_zero_whatever_the_number_of_steps(data: BreedDataModule) -> None:
    classifier = BreedClassifier(data.network(), schedule="cosine")
    arguments: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=4, accumulate_grad_batches=2, **arguments)
    trainer.fit(classifier, datamodule=data)
    assert trainer.global_step == 8
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("optimizer", "class_weights"), [("adam", None), ("sgd", [0.5, 1.0, 2.0])])
def test_weight_decay_is_the_strength_of_the_exact_solution(
    optimizer: str, class_weights: list[float] | None, data: BreedDataModule
) -> None:
    """Trained to the end, the head is the minimum of mean loss + strength/2 * |W|^2, W on normalised features."""
    network, strength = data.network(), 0.1
    # Other than 1, so that the scale of the input matters.
    network.head.gain = 0.5
    train, valid = (data.features.vectors[split] for split in ("train", "valid"))
    weights = None if class_weights is None else torch.tensor(class_weights)
    inputs, held_out = (network.head.normalise(split.tensor) for split in (train, valid))

    def objective(weight: Tensor, bias: Tensor) -> float:
        logits = nn.functional.linear(inputs, weight, bias)
        return float(nn.functional.cross_entropy(logits, train.labels, weights) + strength / 2 * weight.square().sum())

    exact = ExactPath(inputs, train.labels, held_out, valid.labels, weights).at(strength)
    classifier = BreedClassifier(
        network, lr=0.1, optimizer=optimizer, weight_decay=strength, schedule="cosine", class_weights=class_weights
    )
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=200, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    data.batch_size = len(train.labels)
    trainer.fit(classifier, datamodule=data)
    (layer,) = network.head.layers
    assert isinstance(layer, nn.Linear)
    least = objective(exact.weight, exact.bias)
    reached = objective(network.head.gain * layer.weight.detach(), layer.bias.detach())
    assert reached == pytest.approx(least, rel=2e-3)
    # Of another strength, it would be elsewhere.
    other = ExactPath(inputs, train.labels, held_out, valid.labels, weights).at(strength / 2)
    assert objective(other.weight, other.bias) > 1.01 * least


def test_only_the_last_layer_has_weight_decay(sample: Path, store: FeatureStore) -> None:
    data = BreedDataModule(sample, "squeezenet1_1", "random", unfreeze="fire9", store=store)
    classifier = BreedClassifier(data.network("mlp", [16]), weight_decay=0.1, optimizer="adamw")
    groups = classifier.configure_optimizers().param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 1), (0.0, 5), (0.0, 6)]
    assert groups[0]["params"][0] is classifier.head.layers[-1].weight


def test_weighted_classes_leave_the_logged_losses_comparable() -> None:
    """Those of training and validation are the same number for the same photos and weights."""
    features, labels = torch.randn(30, 4), torch.tensor([0] * 28 + [1, 2])
    head = Head(HeadShape("linear", 4, 3))
    head.initialise(features)
    classifier = BreedClassifier(Network(nn.Sequential(), nn.Sequential(), head), lr=0.0, class_weights=[0.1, 9, 9])
    loader = torch.utils.data.DataLoader([(features, labels)], batch_size=None)  # type: ignore[arg-type]
    arguments: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, **arguments)
    nn.init.normal_(classifier.head.layers[-1].weight)
    trainer.fit(classifier, loader, loader)
    metrics = trainer.callback_metrics
    assert float(metrics["train/loss"]) == pytest.approx(float(metrics["val/loss"]))
    assert float(classifier.training_step((features, labels), 0)) != pytest.approx(float(metrics["train/loss"]))


@pytest.mark.parametrize(
    ("backbone", "unfreeze", "draws"),
    [("resnet18", "layer4", False), ("vgg16", "fc7", True), ("convnext_tiny", "stage4", True)],
)
def test_tails_that_draw_at_random_are_known(backbone: str, unfreeze: str, draws: bool) -> None:
    loaded = load_backbone(backbone, "random", seed=0)
    trunk, tail = cut(loaded.stages, loaded.transform, unfreeze)
    head = Head(HeadShape("linear", loaded.width, 3))
    assert BreedClassifier(Network(trunk, tail, head))._has_dropout is draws


def test_heads_that_draw_at_random_are_known() -> None:
    assert BreedClassifier(head={"kind": "mlp", "width": 4, "classes": 3, "hidden": (8,), "dropout": 0.5})._has_dropout
    assert not BreedClassifier(head={"kind": "linear", "width": 4, "classes": 3})._has_dropout


def test_a_checkpoint_with_a_tail_needs_its_network(tmp_path: Path) -> None:
    head = Head(HeadShape("linear", 4, 3))
    network = Network(nn.Sequential(), nn.Sequential(nn.Linear(4, 4)), head)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(BreedClassifier(network, tail_lr=0.5))
    trainer.save_checkpoint(tmp_path / "tail.ckpt", weights_only=True)
    with pytest.raises(ConfigError, match="network="):
        BreedClassifier.load_from_checkpoint(tmp_path / "tail.ckpt")
    assert BreedClassifier.load_from_checkpoint(tmp_path / "tail.ckpt", network=network).hparams["tail_lr"] == 0.5


def test_it_needs_a_network_or_a_head() -> None:
    with pytest.raises(ConfigError, match="needs a network or a head"):
        BreedClassifier()

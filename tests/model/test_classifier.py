"""The LightningModule: which of its parts draw at random, and that steps are seeded one by one where they do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dogbreeds.model.backbones import cut, load_backbone
from dogbreeds.model.classifier import BreedClassifier
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.network import Network
from tests.classifiers import small_classifier


def classifier(tail: nn.Sequential, width: int, dropout: float = 0.0) -> BreedClassifier:
    kind, hidden = ("mlp", (8,)) if dropout else ("linear", ())
    head = Head(HeadShape(kind, width, 3, hidden, dropout))
    return small_classifier(
        Network(nn.Sequential(), tail, head),
        classes=3,
        learning_rate=0.1,
        tail_learning_rate=0.01,
        steps=10,
    )


@pytest.mark.parametrize(
    ("backbone", "unfreeze", "draws"),
    [("resnet18", "layer4", False), ("vgg16", "fc7", True), ("convnext_tiny", "stage4", True)],
)
def test_tails_that_draw_at_random_are_known(backbone: str, unfreeze: str, draws: bool) -> None:
    loaded = load_backbone(backbone, "random", seed=0)
    _, tail = cut(loaded.stages, loaded.transform, unfreeze)
    assert classifier(tail, loaded.width)._draws is draws


def test_heads_that_draw_at_random_are_known() -> None:
    assert classifier(nn.Sequential(), 4, dropout=0.5)._draws
    assert not classifier(nn.Sequential(), 4)._draws


def test_images_and_features_enter_where_they_belong() -> None:
    loaded = load_backbone("resnet18", "random", seed=0)
    trunk, tail = cut(loaded.stages, loaded.transform, "layer4")
    head = Head(HeadShape("linear", loaded.width, 3))
    head.initialise(torch.randn(5, loaded.width))
    module = classifier(tail, loaded.width)
    module.trunk, module.head = trunk, head
    module.eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(module(images), module(trunk(images)))

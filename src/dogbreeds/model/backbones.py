"""Backbones from torchvision, cut into a frozen trunk and a trainable tail.

Every backbone is written as a sequence of named stages that ends in the pooled vector which its own last
linear layer would have taken. The trunk is the stages before the cut, the tail those behind it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision import models

from dogbreeds.data.images import Transform
from dogbreeds.errors import ConfigError
from dogbreeds.model.names import BACKBONES
from dogbreeds.model.stages import stages_of
from dogbreeds.model.weights import pretrained_model, random_model


@dataclass(frozen=True)
class Backbone:
    """A backbone with its weights, in evaluation mode.

    Attributes:
        name: One of `BACKBONES`.
        stages: Named stages; normalised float images (N, 3, H, W) in, vectors (N, width) out.
        width: Length of the vectors.
        transform: The transform that the weights were trained with.
        pretrained: False for random weights.
    """

    name: str
    stages: nn.Sequential
    width: int
    transform: Transform
    pretrained: bool


@dataclass(frozen=True)
class Trunk:
    """The frozen part of a backbone.

    Attributes:
        name: The backbone, and where it was cut.
        layers: uint8 images (N, 3, H, W) in, features (N, *shape) out.
        transform: The transform that the weights were trained with.
        fingerprint: SHA-256 of its weights, which names them in caches.
        shape: Shape of one photo's features: a vector, or activations where a tail follows.
    """

    name: str
    layers: nn.Sequential
    transform: Transform
    fingerprint: str
    shape: tuple[int, ...]


class _Normalise(nn.Module):
    """uint8 images to normalised floats of the trunk's own type."""

    mean: Tensor
    std: Tensor

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(transform.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(transform.std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images.to(self.mean.dtype) - self.mean) / self.std


def transform_of(name: str) -> Transform:
    """Returns the evaluation transform of torchvision's default weights for a backbone."""
    preset = models.get_model_weights(name)["DEFAULT"].transforms()
    return Transform(
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def load_backbone(name: str, weights: str, seed: int) -> Backbone:
    """Builds a backbone and loads its weights.

    Args:
        name: One of `BACKBONES`.
        weights: `imagenet` (torchvision's default, downloaded once), `random`, or a torchvision state dict
            as .pth or .safetensors.
        seed: Decides random weights.

    Raises:
        ConfigError: There is no such backbone.
        WeightsError: The weights cannot be downloaded or read, or belong to another architecture.
    """
    outline = architecture(name)
    model = random_model(name, seed) if weights == "random" else pretrained_model(name, weights)
    stages = stages_of(model).eval().requires_grad_(False)
    transform = transform_of(name)
    width = outline(torch.empty(1, 3, transform.crop, transform.crop, device="meta")).shape[1]
    return Backbone(name, stages, width, transform, weights != "random")


def architecture(name: str) -> nn.Sequential:
    """Returns the stages without weights (on the meta device), for a state dict to fill.

    Raises:
        ConfigError: There is no such backbone.
    """
    if name not in BACKBONES:
        raise ConfigError(f"model.backbone={name}: unknown. Use one of {', '.join(BACKBONES)}.")
    with torch.device("meta"):
        return stages_of(models.get_model(name, weights=None)).eval().requires_grad_(False)


def cut(stages: nn.Sequential, transform: Transform, unfreeze: str | None) -> tuple[nn.Sequential, nn.Sequential]:
    """Cuts the stages in two.

    Args:
        stages: From `load_backbone` or `architecture`.
        transform: Gives the normalisation, which becomes the trunk's first stage.
        unfreeze: The first stage of the tail; None leaves the tail empty.

    Returns:
        The frozen trunk, which takes uint8 images, and the trainable tail.

    Raises:
        ConfigError: There is no such stage.
    """
    named = dict(stages.named_children())
    names = list(named)
    if unfreeze is not None and unfreeze not in named:
        raise ConfigError(f"model.unfreeze={unfreeze}: unknown stage. Use one of {', '.join(names)}.")
    position = len(names) if unfreeze is None else names.index(unfreeze)
    layers = list(named.items())
    trunk = nn.Sequential(OrderedDict([("normalise", _Normalise(transform)), *layers[:position]]))
    tail = nn.Sequential(OrderedDict(layers[position:]))
    return trunk.eval().requires_grad_(False), tail.requires_grad_(True)


def trunk_of(backbone: Backbone, unfreeze: str | None) -> Trunk:
    """Returns the stages of a backbone before a cut, and their shape, without running them."""
    layers, _ = cut(backbone.stages, backbone.transform, unfreeze)
    outline, _ = cut(architecture(backbone.name), backbone.transform, unfreeze)
    side = backbone.transform.crop
    features = outline.to("meta")(torch.empty(1, 3, side, side, dtype=torch.uint8, device="meta"))
    return Trunk(
        name=backbone.name if unfreeze is None else f"{backbone.name} before {unfreeze}",
        layers=layers,
        transform=backbone.transform,
        fingerprint=fingerprint(layers),
        shape=tuple(features.shape[1:]),
    )


def fingerprint(module: nn.Module) -> str:
    """Returns the SHA-256 over names and bytes of a module's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()

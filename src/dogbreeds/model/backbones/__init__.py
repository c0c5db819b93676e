"""Backbones from torchvision and timm, cut into a frozen trunk and a trainable tail.

Every backbone is written as a sequence of named stages that ends in the pooled vector which its own last
linear layer would have taken. The trunk is the stages before the cut, the tail those behind it.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dogbreeds.data.transform import Transform
from dogbreeds.errors import ConfigError
from dogbreeds.installation import require
from dogbreeds.model.backbones.architecture import NOT_STATED, Architecture, outline, wrong_size
from dogbreeds.model.backbones.torchvision_networks import TorchvisionNetwork
from dogbreeds.model.backbones.weights import name_of, pretrained_model, random_model
from dogbreeds.model.weight_files import weights_file


@dataclass(frozen=True)
class Backbone:
    """A backbone with its weights, in evaluation mode.

    Attributes:
        stages: Named stages; normalised float images (N, 3, H, W) in, vectors (N, width) out.
        width: Length of the vectors.
        transform: The transform that the weights were trained with, at the resolution that was asked for.
        weights: The name of the weights, of their file where it is no copy of named ones, or `random`.
        licence: Of the weights, where the library states it.
    """

    name: str
    stages: nn.Sequential
    width: int
    transform: Transform
    pretrained: bool
    library: str
    pool: str
    weights: str
    licence: str


@dataclass(frozen=True)
class Trunk:
    """The frozen part of a backbone.

    Attributes:
        name: The backbone, where it was cut, and whether it is mirrored.
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


class Mirrored(nn.Sequential):
    """A trunk that returns the mean of the features of each image and of its mirror image."""

    variant = "mirrored"

    def forward(self, images: Tensor) -> Tensor:
        # One pass over twice the images: in a graph that is recorded, each layer stands once.
        both = torch.cat([images, images.flip(-1)])
        features: Tensor = super().forward(both)  # type: ignore[no-untyped-call]
        mean: Tensor = features.unflatten(0, (2, -1)).mean(dim=0)
        return mean


def architecture_of(name: str, library: str = "torchvision") -> Architecture:
    """Returns a network of a library; timm is imported only where it is asked for.

    Raises:
        ConfigError: There is no such network, or timm is not installed.
    """
    if library == "torchvision":
        return TorchvisionNetwork(name)
    require("model.library=timm", "timm", "timm")
    from dogbreeds.model.backbones.timm_networks import TimmNetwork

    return TimmNetwork(name)


def load_backbone(
    name: str,
    weights: str,
    seed: int,
    *,
    library: str = "torchvision",
    pool: str = "head",
    resolution: int | None = None,
    crop: float | None = None,
) -> Backbone:
    """Builds a backbone and loads its weights.

    Args:
        name: One of `BACKBONES`, or of timm's networks.
        weights: `imagenet` (what the library recommends, downloaded once), another name that the library has for
            weights of this network, `random`, or a state dict as .pth or .safetensors, or a folder that has one which
            is called after the backbone.
        seed: Decides random weights.
        library: `torchvision` or `timm`.
        pool: `head`, or `token+mean` for vision transformers of timm.
        resolution: Side of the images in pixels; None is that of the weights.
        crop: The share of a photo's shorter side that is seen; None is that of the weights.

    Raises:
        ConfigError: There is no such backbone, or it does not have that pooling or resolution.
        WeightsError: The weights cannot be downloaded or read, or belong to another architecture.
    """
    network = architecture_of(name, library)
    preset = network.preset(weights)
    if weights == "random":
        preset = replace(preset, weights=weights, licence=NOT_STATED)
    elif weights != "imagenet" and weights not in network.named_weights():
        file = weights_file(Path(weights), name)
        known = name_of(network, file) if library == "torchvision" and file.is_file() else None
        preset = network.preset(known) if known else replace(preset, weights=file.name, licence=NOT_STATED)
        weights = str(file)
    own, transform = preset.transform.crop, preset.transform.at(resolution, crop)
    side = transform.crop
    model = random_model(network, side, seed) if weights == "random" else pretrained_model(network, side, weights)
    try:
        stages = network.stages(model, pool, side).eval().requires_grad_(False)
        width = outline(stages)(torch.empty(1, 3, side, side, device="meta")).shape[1]
    except (RuntimeError, AssertionError, ValueError) as error:
        if side != own:
            raise wrong_size(name, side, own) from error
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"model.backbone={name}: is not like other networks of {library} ({reason}).") from error
    pretrained = weights != "random"
    return Backbone(name, stages, width, transform, pretrained, library, pool, preset.weights, preset.licence)


def architecture(
    name: str, *, library: str = "torchvision", pool: str = "head", side: int | None = None
) -> nn.Sequential:
    """Returns the stages without weights of their own, for a state dict to fill; see `load_backbone`.

    The side of the images is in pixels; None is that of the weights.
    """
    network = architecture_of(name, library)
    side = side or network.preset("imagenet").transform.crop
    with torch.random.fork_rng(devices=[]):
        return network.stages(network.create(side), pool, side).eval().requires_grad_(False)


def cut(
    stages: nn.Sequential, transform: Transform, unfreeze: str | None, *, mirror: bool = False
) -> tuple[nn.Sequential, nn.Sequential]:
    """Returns the frozen trunk, which takes uint8 images, and the trainable tail.

    Args:
        transform: Gives the normalisation, which becomes the trunk's first stage.
        unfreeze: The first stage of the tail; None leaves the tail empty.
        mirror: Whether the trunk sees each image and its mirror image; without a tail.

    Raises:
        ConfigError: There is no such stage.
    """
    named = dict(stages.named_children())
    names = list(named)
    if unfreeze is not None and unfreeze not in named:
        if len(names) == 1:
            raise ConfigError(f"model.unfreeze={unfreeze}: this network cannot be cut at a stage. Leave it out.")
        raise ConfigError(f"model.unfreeze={unfreeze}: unknown stage. Use one of {', '.join(names)}.")
    position = len(names) if unfreeze is None else names.index(unfreeze)
    layers = list(named.items())
    kind = Mirrored if mirror else nn.Sequential
    trunk = kind(OrderedDict([("normalise", _Normalise(transform)), *layers[:position]]))
    tail = nn.Sequential(OrderedDict(layers[position:]))
    return trunk.eval().requires_grad_(False), tail.requires_grad_(True)


def trunk_of(backbone: Backbone, unfreeze: str | None, *, mirror: bool = False) -> Trunk:
    """Returns the stages of a backbone before a cut, and their shape, without running them."""
    layers, _ = cut(backbone.stages, backbone.transform, unfreeze, mirror=mirror)
    side = backbone.transform.crop
    features = outline(layers)(torch.empty(1, 3, side, side, dtype=torch.uint8, device="meta"))
    # Without the tag of timm's weights, which the fingerprint tells better.
    plain = backbone.name.partition(".")[0]
    name = plain if backbone.library == "torchvision" else f"{backbone.library} {plain}"
    return Trunk(
        name=f"{name}{'' if unfreeze is None else f' before {unfreeze}'}{', mirrored' if mirror else ''}",
        layers=layers,
        transform=backbone.transform,
        fingerprint=fingerprint(layers),
        shape=tuple(features.shape[1:]),
    )


def fingerprint(module: nn.Module) -> str:
    """Returns the SHA-256 over names and bytes of a module's state, and over what else tells its parts apart.

    That is the attribute `variant` of modules which compute something else than others with the same weights.
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        if isinstance(variant := getattr(part, "variant", None), str):
            digest.update(f"{name} {variant}".encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()

"""Backbones from torchvision, cut into a frozen trunk and a trainable tail.

Every backbone is written as a sequence of named stages that ends in the pooled vector which its own last
linear layer would have taken. The trunk is the stages before the cut, the tail those behind it.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from dogbreeds.data.images import Transform
from dogbreeds.errors import WeightsError
from dogbreeds.model.names import BACKBONES

_SHOWN_KEYS = 3
# What reading a cut-off file, or one that never held weights, raises; the last four are of torch's unpickler.
_DAMAGED = (
    SafetensorError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    zipfile.BadZipFile,
    struct.error,
    LookupError,
    TypeError,
    AttributeError,
)


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
        operations: Floating-point operations of one photo.
    """

    name: str
    layers: nn.Sequential
    transform: Transform
    fingerprint: str
    shape: tuple[int, ...]
    operations: float


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


class _PatchEmbedding(nn.Module):
    """The part of torchvision's VisionTransformer before its layers."""

    def __init__(self, model: models.VisionTransformer) -> None:
        super().__init__()
        self.projection = model.conv_proj
        self.class_token = model.class_token
        self.position = model.encoder.pos_embedding

    def forward(self, images: Tensor) -> Tensor:
        patches = self.projection(images).flatten(2).transpose(1, 2)
        tokens: Tensor = torch.cat([self.class_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        embedded: Tensor = tokens + self.position
        return embedded


class _ClassToken(nn.Module):
    """The part of torchvision's VisionTransformer behind its layers."""

    def __init__(self, model: models.VisionTransformer) -> None:
        super().__init__()
        self.norm = model.encoder.ln

    def forward(self, tokens: Tensor) -> Tensor:
        token: Tensor = self.norm(tokens[:, 0])
        return token


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
    """Builds a backbone and gives it weights.

    Args:
        name: One of `BACKBONES`.
        weights: `imagenet` (torchvision's default, downloaded once), `random`, or a torchvision state dict
            as .pth or .safetensors.
        seed: Decides the weights where they are random.

    Raises:
        WeightsError: The weights cannot be downloaded, read, or belong to another architecture.
    """
    model = _random(name, seed) if weights == "random" else _pretrained(name, weights)
    stages = _stages(name, model).eval().requires_grad_(False)
    transform = transform_of(name)
    width = architecture(name)(torch.empty(1, 3, transform.crop, transform.crop, device="meta")).shape[1]
    return Backbone(name, stages, width, transform, weights != "random")


def architecture(name: str) -> nn.Sequential:
    """Returns the stages without weights (on the meta device), for a state dict to fill."""
    with torch.device("meta"):
        return _stages(name, models.get_model(name, weights=None)).eval().requires_grad_(False)


def cut(stages: nn.Sequential, transform: Transform, unfreeze: str | None) -> tuple[nn.Sequential, nn.Sequential]:
    """Cuts the stages in two.

    Args:
        stages: What `load_backbone` or `architecture` built.
        transform: Gives the normalisation, which becomes the trunk's first stage.
        unfreeze: The first stage of the tail; None leaves the tail empty.

    Returns:
        The frozen trunk, which takes uint8 images, and the trainable tail.
    """
    named = list(stages.named_children())
    position = len(named) if unfreeze is None else [name for name, _ in named].index(unfreeze)
    trunk = nn.Sequential(OrderedDict([("normalise", _Normalise(transform)), *named[:position]]))
    tail = nn.Sequential(OrderedDict(named[position:]))
    return trunk.eval().requires_grad_(False), tail.requires_grad_(True)


def trunk_of(backbone: Backbone, unfreeze: str | None) -> Trunk:
    """Returns the stages of a backbone before a cut, and what is known of them without running them."""
    layers, _ = cut(backbone.stages, backbone.transform, unfreeze)
    outline, _ = cut(architecture(backbone.name), backbone.transform, unfreeze)
    side = backbone.transform.crop
    with FlopCounterMode(display=False) as counter:
        features = outline.to("meta")(torch.empty(1, 3, side, side, dtype=torch.uint8, device="meta"))
    return Trunk(
        name=backbone.name if unfreeze is None else f"{backbone.name} before {unfreeze}",
        layers=layers,
        transform=backbone.transform,
        fingerprint=fingerprint(layers),
        shape=tuple(features.shape[1:]),
        operations=float(counter.get_total_flops()),
    )


def fingerprint(module: nn.Module) -> str:
    """Returns the SHA-256 over names and bytes of a module's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _random(name: str, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = models.get_model(name, weights=None)
        return model


def _pretrained(name: str, weights: str) -> nn.Module:
    loaded = _download(name) if weights == "imagenet" else _read(Path(weights))
    with torch.device("meta"):
        model: nn.Module = models.get_model(name, weights=None)
    last_layer = _last_linear(model)
    # The last layer is replaced anyway, so weights that were fine-tuned on other classes serve as well.
    state = {key: value for key, value in loaded.items() if not key.startswith(f"{last_layer}.")}
    # Weights saved before PyTorch 0.4.1 lack this counter, which evaluation does not use.
    counters = [key for key in model.state_dict() if key.endswith("num_batches_tracked")]
    state = {key: torch.tensor(0) for key in counters} | state
    expected = {key: value for key, value in model.state_dict().items() if not key.startswith(f"{last_layer}.")}
    _refuse_other_architecture(name, weights, state, expected, loaded)
    # Weights that were saved in half precision are computed with in full, as any others; copied, because the
    # bytes of a .safetensors file are not aligned as torch's are, and the last bits of features depend on that.
    state = {key: state[key].to(value.dtype, copy=True) for key, value in expected.items()}
    model.load_state_dict(state, strict=False, assign=True)
    return model


def _last_linear(model: nn.Module) -> str:
    """The name of the classifying layer, which is the last one that is linear or a convolution."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return str(layers[-1])


def _download(name: str) -> Mapping[str, Tensor]:
    weights = models.get_model_weights(name)["DEFAULT"]
    target = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        return weights.get_state_dict(check_hash=True, weights_only=True)  # type: ignore[no-any-return]
    except (*_DAMAGED, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"model.weights=imagenet: {weights.url} cannot be downloaded ({_first_line(error)}).\n"
            f"Two ways out: fetch that file elsewhere and pass it as model.weights=<file> (or put it at {target}), "
            "or try the run with model.weights=random, which is not pretrained."
        ) from error


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except _DAMAGED as error:
        raise WeightsError(f"model.weights={path} is damaged or cut off: {_first_line(error)}") from error
    except pickle.UnpicklingError as error:
        # What torch says here is how to load the file in spite of the danger.
        raise WeightsError(
            f"model.weights={path} is no state dict that can be loaded safely.\n"
            "Save the weights alone: torch.save(model.state_dict(), path)."
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise WeightsError(
            f"model.weights={path} holds a {type(state).__name__} that is no state dict. "
            "Save the weights alone: torch.save(model.state_dict(), path)."
        )
    return state


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _refuse_other_architecture(
    name: str,
    weights: str,
    state: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    loaded: Mapping[str, Tensor],
) -> None:
    differences = [f"missing {key}" for key in expected if key not in state]
    differences += [
        f"unexpected {key}" for key in state if key not in expected and not key.endswith("num_batches_tracked")
    ]
    differences += [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if differences:
        more = f" and {len(differences) - _SHOWN_KEYS} more" if len(differences) > _SHOWN_KEYS else ""
        fitting = _fitting(loaded)
        hint = f" They fit model={fitting}." if fitting else ""
        raise WeightsError(
            f"model.weights={weights} are not weights of {name}: {'; '.join(differences[:_SHOWN_KEYS])}{more}.{hint}"
        )


def _fitting(state: Mapping[str, Tensor]) -> str | None:
    """The backbone whose parameters have exactly these names and shapes, if any."""
    names = {key for key in state if not key.endswith("num_batches_tracked")}
    for name in BACKBONES:
        with torch.device("meta"):
            model = models.get_model(name, weights=None)
        last_layer = _last_linear(model)
        shapes = {
            key: value.shape
            for key, value in model.state_dict().items()
            if not key.startswith(f"{last_layer}.") and not key.endswith("num_batches_tracked")
        }
        same_names = {key for key in names if not key.startswith(f"{last_layer}.")} == shapes.keys()
        if same_names and all(state[key].shape == shape for key, shape in shapes.items()):
            return name
    return None


def _stages(name: str, model: nn.Module) -> nn.Sequential:
    """Writes a torchvision model, without its last linear layer, as named stages."""
    stages: list[tuple[str, nn.Module]]
    if isinstance(model, models.ResNet):
        stages = [("stem", nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool))]
        stages += [(layer, getattr(model, layer)) for layer in ("layer1", "layer2", "layer3", "layer4")]
        stages += [("pool", nn.Sequential(model.avgpool, nn.Flatten()))]
    elif isinstance(model, models.VGG):
        stages = _vgg(model)
    elif isinstance(model, models.SqueezeNet):
        stages = _squeezenet(model)
    elif isinstance(model, models.VisionTransformer):
        stages = [("embedding", _PatchEmbedding(model))]
        stages += [(f"layer{number}", layer) for number, layer in enumerate(model.encoder.layers)]
        stages += [("pool", _ClassToken(model))]
    elif isinstance(model, models.ConvNeXt):
        stages = [("stem", model.features[0])]
        stages += [
            (f"stage{number}", nn.Sequential(*model.features[max(1, 2 * number - 2) : 2 * number]))
            for number in range(1, 5)
        ]
        stages += [("pool", nn.Sequential(model.avgpool, model.classifier[:-1]))]
    else:
        assert isinstance(model, models.MobileNetV3 | models.EfficientNet), name
        stages = [("stem", model.features[0])]
        stages += [(f"block{number}", block) for number, block in enumerate(model.features) if number > 0]
        stages += [("pool", nn.Sequential(model.avgpool, nn.Flatten()))]
        if len(model.classifier) > 2:
            stages += [("fc", model.classifier[:-1])]
    return nn.Sequential(OrderedDict(stages))


def _vgg(model: models.VGG) -> list[tuple[str, nn.Module]]:
    blocks: list[list[nn.Module]] = [[]]
    for layer in model.features:
        blocks[-1].append(layer)
        if isinstance(layer, nn.MaxPool2d):
            blocks.append([])
    stages: list[tuple[str, nn.Module]] = [
        (f"block{number}", nn.Sequential(*layers)) for number, layers in enumerate(blocks[:-1], 1)
    ]
    stages.append(("pool", nn.Sequential(model.avgpool, nn.Flatten())))
    stages.append(("fc6", model.classifier[:3]))
    stages.append(("fc7", model.classifier[3:6]))
    return stages


def _squeezenet(model: models.SqueezeNet) -> list[tuple[str, nn.Module]]:
    stages: list[tuple[str, nn.Module]] = []
    layers: list[nn.Module] = []
    fires = 1
    for layer in model.features:
        if isinstance(layer, models.squeezenet.Fire):
            stages.append((f"fire{fires}" if fires > 1 else "stem", nn.Sequential(*layers)))
            layers, fires = [], fires + 1
        layers.append(layer)
    stages.append((f"fire{fires}", nn.Sequential(*layers)))
    stages.append(("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())))
    return stages

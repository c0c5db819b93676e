"""Torchvision models as sequences of named stages, at each of which a backbone can be cut."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision import models


def stages_of(model: nn.Module) -> nn.Sequential:
    """Returns a torchvision model, without its last linear layer, as named stages."""
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
    elif isinstance(model, models.MobileNetV2 | models.MobileNetV3 | models.EfficientNet):
        stages = [("stem", model.features[0])]
        stages += [(f"block{number}", block) for number, block in enumerate(model.features) if number > 0]
        # MobileNetV2 pools by a function.
        stages += [("pool", nn.Sequential(getattr(model, "avgpool", nn.AdaptiveAvgPool2d(1)), nn.Flatten()))]
        if len(model.classifier) > 2:
            stages += [("fc", model.classifier[:-1])]
    else:
        raise TypeError(f"{type(model).__name__} has no known stages")
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

"""The networks of torchvision, as `Architecture` wants them."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from dogbreeds.data.transform import Transform
from dogbreeds.errors import ConfigError
from dogbreeds.model.backbones.architecture import Preset, State
from dogbreeds.model.backbones.torchvision_stages import stages_of
from dogbreeds.model.names import BACKBONES

# Of torchvision itself; weights under other terms say so.
_LICENCE = "BSD-3-Clause"


class TorchvisionNetwork:
    """One of `BACKBONES`."""

    def __init__(self, name: str) -> None:
        if name not in BACKBONES:
            said = f"model.backbone={name}: unknown. Use one of {', '.join(BACKBONES)}, or for a network of"
            raise ConfigError(f"{said} timm model=timm model.backbone=<name>, or model=<name> where conf/model has it.")
        self.name = name

    def named_weights(self) -> list[str]:
        return [one.name.lower() for one in models.get_model_weights(self.name)]

    def preset(self, weights: str) -> Preset:
        chosen = self._weights(weights)
        preset = chosen.transforms()
        transform = Transform(
            resize=preset.resize_size[0],
            crop=preset.crop_size[0],
            interpolation=preset.interpolation.value,
            mean=tuple(preset.mean),
            std=tuple(preset.std),
        )
        return Preset(chosen.name.lower(), chosen.meta.get("license", _LICENCE), transform)

    def _weights(self, name: str) -> Any:
        known = models.get_model_weights(self.name)
        return known[name.upper()] if name in self.named_weights() else known["DEFAULT"]

    def create(self, side: int) -> nn.Module:
        with torch.device("meta"):
            return self.create_random(side)

    def create_random(self, side: int) -> nn.Module:
        # Transformers have a position for each patch; the others take images of any size.
        sized = {"image_size": side} if self.name.startswith("vit_") else {}
        patch = int(self.name.rpartition("_")[2]) if sized else 1
        if side % patch:
            raise ConfigError(f"model.resolution={side}: {self.name} takes multiples of {patch}.")
        model: nn.Module = models.get_model(self.name, weights=None, **sized)
        return model

    def classifier(self, model: nn.Module) -> tuple[str, ...]:
        # The last one that is linear or a convolution.
        layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        return (layers[-1],)

    def stages(self, model: nn.Module, pool: str, side: int) -> nn.Sequential:
        if pool != "head":
            raise ConfigError(f"model.pool={pool}: needs model.library=timm and a vision transformer.")
        return stages_of(model)

    def download(self, weights: str) -> State:
        return self._weights(weights).get_state_dict(check_hash=True, weights_only=True)  # type: ignore[no-any-return]

    def source(self, weights: str) -> tuple[str, str]:
        url = self._weights(weights).url
        return url, str(Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name)

    def adapted(self, state: State, model: nn.Module) -> State:
        if not isinstance(model, models.VisionTransformer) or "encoder.pos_embedding" not in state:
            return state
        return interpolate_embeddings(model.image_size, model.patch_size, dict(state))  # type: ignore[no-any-return]

"""Where a model looked: photos in grey, coloured by how much each place of them speaks for a breed."""

import copy
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from dogbreeds.errors import ConfigError, PackageError
from dogbreeds.model.backbones import Mirrored
from dogbreeds.model.backbones.architecture import outline
from dogbreeds.model.backbones.timm_stages import Pooled
from dogbreeds.package.predictor import Predictor

_SIDE, _COLOUR_SHARE, _QUALITY = 448, 0.55, 90
# What tells a picture from other files, before its pixels.
_MADE, _BEFORE = "where dogbreeds looked", 64
_SUCH = "resnet50, squeezenet1_1, mobilenet_v2, efficientnet_b0 or tf_efficientnet_lite2"
# Of evenly rising lightness, and told apart by the colour-blind too.
_NOTHING, _HALF, _MOST = "#00204d", "#7c7b78", "#ffea46"


class Explainer:
    """Draws class activation maps, in float32 on the processor, whatever engine and precision answer photos."""

    def __init__(self, predictor: Predictor) -> None:
        """Raises a ConfigError where the activations are not pooled by their mean alone, or the head is not linear."""
        network, self._description = predictor.network, predictor.description
        tail, self._head = copy.deepcopy((network.tail, network.head))
        *layers, last = [*network.trunk, *tail.cpu()]
        self._layers, self._mirrored = nn.Sequential(*layers), isinstance(network.trunk, Mirrored)
        if isinstance(last, Pooled):
            self._layers.append(last.layers)
        if len(self._head.cpu().layers) > 1 or not self._is_mean(last.pool if isinstance(last, Pooled) else last):
            raise ConfigError(
                f"explain= needs a network that ends in a mean over the photo, such as {_SUCH}, and model.head=linear; "
                f"this is {self._description.backbone} with model.head={self._description.head.kind}."
            )

    def _is_mean(self, pool: Callable[[Tensor], Tensor]) -> bool:
        """Tries whether a layer makes of activations their mean over the places, whatever it is called."""
        side = self._description.transform.crop
        shape = outline(self._layers)(torch.empty(1, 3, side, side, device="meta")).shape
        tried = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        made, mean = pool(tried), tried.mean(dim=tuple(range(2, len(shape))))
        return made.shape == mean.shape and torch.allclose(made, mean, atol=1e-5)

    @torch.inference_mode()
    def maps(self, image: Tensor) -> Tensor:
        """Returns maps (classes, height, width) of a uint8 image (3, crop, crop); see `Head.at_locations`."""
        found: Tensor = self._layers(image[None])
        if self._mirrored:
            found = (found + self._layers(image[None].flip(-1)).flip(-1)) / 2
        return self._head.at_locations(found[0])

    def picture(self, content: bytes, index: int) -> bytes:
        """Returns a JPEG of what the model sees of a photo, coloured by what each place adds to the logit of a class.

        Beyond what it adds to that of an average class: from dark blue (nothing, or less) to yellow (the most).
        """
        transform = self._description.transform
        photo = transform.decoded(content)
        maps = self.maps(transform(photo))
        gain = (maps[index] - maps.mean(dim=0)).clamp_min(0)
        heat = Image.fromarray((gain / gain.max().clamp_min(1e-9) * 255).byte().numpy())
        seen = Image.fromarray(transform.at(_SIDE, None)(photo).permute(1, 2, 0).numpy()).convert("L").convert("RGB")
        colours = ImageOps.colorize(heat.resize(seen.size, Image.Resampling.BILINEAR), _NOTHING, _MOST, mid=_HALF)
        file = io.BytesIO()
        Image.blend(seen, colours, _COLOUR_SHARE).save(file, "JPEG", quality=_QUALITY, comment=_MADE)
        return file.getvalue()


def is_picture(file: Path) -> bool:
    """Whether a file is one that `Explainer.picture` made."""
    with file.open("rb") as opened:
        return _MADE.encode() in opened.read(_BEFORE)


def pictures_of(package: Path, metrics: Mapping[str, Any]) -> Callable[[Path, int], bytes]:
    """Returns what draws as `Explainer.picture` does, for the run that has these metrics.json.

    A package with other classes or scores would explain other answers: it is refused.
    """
    predictor = Predictor.load(package, torch.device("cpu"))
    made = {**predictor.description.metrics, "classes": predictor.description.classes}
    # As texts, because NaN equals nothing.
    if json.dumps(made) != json.dumps({name: metrics.get(name) for name in made}):
        raise PackageError(f"{package} is the package of another run: its classes or scores are not those of this one.")
    picture = Explainer(predictor).picture
    return lambda photo, index: picture(photo.read_bytes(), index)

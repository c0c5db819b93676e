"""Views of a photo: 0 is what evaluation sees, 1 to K are random crops and mirror images, each always the same.

A view depends on nothing but the photo and its number, so its features can be kept like any others, and whatever
order threads or processes work in, they see the same crops.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dogbreeds.data.images import Transform, UnreadableImageError, decode

# Inception-style crops (Szegedy et al. 2015): the area and the aspect ratio that torchvision's recipes draw from,
# with a larger smallest area, because a frozen trunk cannot learn to recognise a dog by its ear.
_AREA = (0.35, 1.0)
_ASPECT_RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
# The smallest crop is half the shorter side; decoded at four times the result, it has twice the result's pixels.
_SPARE = 4
# Another number makes other views: to be raised with any change of what is drawn.
_RECIPE = 1


def view_name(view: int) -> str:
    """Names a view in the keys of the feature store."""
    return f"augmented {view} (recipe {_RECIPE})" if view else "evaluation"


def read_view(
    contents: Sequence[bytes], digests: Sequence[str], view: int, transform: Transform
) -> list[Tensor | UnreadableImageError]:
    """Returns one augmented view of each photo as uint8 (3, crop, crop), or why one is no photo."""
    result: list[Tensor | UnreadableImageError] = []
    for content, digest in zip(contents, digests, strict=True):
        try:
            result.append(
                _augment(
                    decode(content, enough=_SPARE * transform.crop), random.Random(f"{digest} {view}"), transform
                )
            )
        except UnreadableImageError as error:
            result.append(error)
    return result


def _augment(image: Image.Image, draw: random.Random, transform: Transform) -> Tensor:
    size, filter_ = (transform.crop, transform.crop), Image.Resampling[transform.interpolation.upper()]
    crop = image.resize(size, filter_, box=_box(image.width, image.height, draw))
    if draw.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(crop)).permute(2, 0, 1).contiguous()


def _box(width: int, height: int, draw: random.Random) -> tuple[float, float, float, float]:
    for _ in range(_ATTEMPTS):
        area = width * height * draw.uniform(*_AREA)
        ratio = math.exp(draw.uniform(math.log(_ASPECT_RATIO[0]), math.log(_ASPECT_RATIO[1])))
        crop_width, crop_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if crop_width <= width and crop_height <= height:
            left, top = draw.uniform(0, width - crop_width), draw.uniform(0, height - crop_height)
            return left, top, left + crop_width, top + crop_height
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side

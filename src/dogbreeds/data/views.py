"""Augmented views of a photo: view 0 is the evaluation transform, 1 to K are random crops, half of them mirrored.

A view depends on the photo and its number alone, so its features can be stored like any others, whatever the order
in which threads or processes compute them.
"""

import math
import random
from collections.abc import Sequence

from torch import Tensor

from dogbreeds.data.images import UnreadableImageError, decode
from dogbreeds.data.transform import OVERSAMPLING, Transform, read_each

# Inception-style crops (Szegedy et al. 2015): the area and the aspect ratio that torchvision's recipes draw from,
# with a larger minimum area, because a frozen trunk cannot learn to recognise a dog by its ear.
_AREA = (0.35, 1.0)
_ASPECT_RATIO = (3 / 4, 4 / 3)
_MAX_ATTEMPTS = 10
# Of the shorter side, that of the smallest crop.
_SMALLEST = 0.5
# Raised with every change of the crops, so that stored features of the old ones are not used.
_RECIPE = 1


def view_name(view: int) -> str:
    """Returns the name of a view in the keys of the feature store."""
    return f"augmented {view} (recipe {_RECIPE})" if view else "evaluation"


def read_view(
    contents: Sequence[bytes], digests: Sequence[str], view: int, transform: Transform
) -> list[Tensor | UnreadableImageError]:
    """Returns one augmented view of each photo as uint8 (3, crop, crop), or why one cannot be read."""

    def one(content: bytes, digest: str) -> Tensor:
        image = decode(content, enough=math.ceil(OVERSAMPLING / _SMALLEST * transform.crop))
        draw = random.Random(f"{digest} {view}")
        crop = transform.resized(image, _box(image.width, image.height, draw))
        return crop.flip(2) if draw.random() < 0.5 else crop

    return read_each(one, contents, digests)


def _box(width: int, height: int, draw: random.Random) -> tuple[float, float, float, float]:
    for _ in range(_MAX_ATTEMPTS):
        area = width * height * draw.uniform(*_AREA)
        ratio = math.exp(draw.uniform(math.log(_ASPECT_RATIO[0]), math.log(_ASPECT_RATIO[1])))
        crop_width, crop_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if crop_width <= width and crop_height <= height:
            left, top = draw.uniform(0, width - crop_width), draw.uniform(0, height - crop_height)
            return left, top, left + crop_width, top + crop_height
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side

"""Draw a dog of an invented breed: circles along its limbs make the shape, a coat fills it, a scene surrounds it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Random = np.random.Generator
Point = tuple[float, float]
#: Rows of x, y and radius: in dog units with the paws at y = 0 and y growing downwards, or in pixels.
Circles = NDArray[np.float64]


class Breed(NamedTuple):
    """What makes a breed. Lengths are in dog units: a dog of middle size is about 1 high at the shoulder."""

    name: str
    base: Colour
    second: Colour  # of the markings and the ears
    coat: str  # saddle, spots, patches or stripes; bib: white throat and paws
    shag: float  # length of the tufts on the outline
    ears: str  # up or down
    tail: str  # curl, long or stub
    muzzle: float  # as a share of the radius of the head
    legs: float  # length below the chest
    length: float
    depth: float
    head: float


BREEDS = (
    Breed("Amber_pointer", (196, 128, 62), (150, 92, 44), "bib", 0.0, "down", "long", 1.2, 0.6, 1.1, 0.46, 0.19),
    Breed("Frostvale_spitz", (226, 222, 214), (92, 94, 104), "saddle", 0.05, "up", "curl", 0.9, 0.44, 1, 0.5, 0.2),
    Breed("Marsh_spaniel", (238, 230, 216), (118, 64, 36), "patches", 0.04, "down", "stub", 0.9, 0.36, 1, 0.48, 0.2),
    Breed("Copper_badgerhound", (178, 98, 48), (52, 36, 32), "saddle", 0, "down", "long", 1.2, 0.15, 1.4, 0.42, 0.2),
    Breed("Ember_bulldog", (150, 104, 68), (70, 48, 38), "stripes bib", 0.0, "up", "stub", 0.5, 0.33, 0.9, 0.6, 0.25),
    Breed("Slate_shepherd", (150, 158, 172), (60, 64, 76), "spots bib", 0.04, "up", "long", 1, 0.5, 1.1, 0.46, 0.19),
    Breed("Domino_hound", (240, 238, 232), (44, 42, 44), "spots", 0.0, "down", "long", 1.1, 0.6, 1.1, 0.46, 0.19),
    Breed("Saffron_corgel", (222, 146, 70), (150, 88, 40), "bib", 0.03, "up", "stub", 0.9, 0.16, 1.2, 0.46, 0.21),
    Breed("Coal_terrier", (58, 54, 56), (34, 32, 36), "saddle", 0.04, "up", "stub", 0.9, 0.28, 0.9, 0.44, 0.2),
    Breed("Dune_windhound", (206, 178, 140), (168, 138, 102), "stripes", 0, "down", "long", 1.4, 0.7, 1.1, 0.4, 0.16),
    Breed("Ivory_herder", (240, 228, 200), (198, 172, 130), "saddle", 0.06, "up", "curl", 1, 0.48, 1.1, 0.52, 0.2),
    Breed("Harbour_retriever", (70, 52, 44), (40, 30, 28), "bib", 0.02, "down", "long", 1, 0.5, 1.1, 0.52, 0.21),
)  # fmt: skip

_OVERSAMPLING = 2  # pictures are drawn larger and then reduced, which smooths the edges
_WHITE, _DARK, _BARK = (240, 236, 228), (34, 30, 32), (96, 76, 60)
# Sky above and at the horizon, ground at the horizon and in front, hills, trees.
_SCENES: tuple[tuple[Colour, ...], ...] = (
    ((120, 180, 226), (206, 228, 236), (122, 168, 84), (84, 134, 62), (104, 144, 78), (72, 110, 78)),
    ((104, 176, 220), (196, 226, 236), (226, 206, 164), (206, 180, 132), (150, 140, 126), (132, 148, 96)),
    ((180, 200, 224), (226, 232, 240), (240, 244, 248), (214, 222, 234), (178, 192, 212), (88, 110, 104)),
    ((214, 190, 150), (238, 222, 186), (170, 128, 82), (126, 90, 60), (150, 76, 48), (196, 112, 52)),
    ((84, 72, 120), (226, 140, 112), (84, 88, 76), (56, 62, 58), (98, 92, 116), (66, 74, 76)),
)


def draw(breed: Breed, random: Random, pixels: int) -> Image.Image:
    """Returns a picture of a dog of a breed, RGB, `pixels` by `pixels`; every choice comes from `random`."""
    side = pixels * _OVERSAMPLING
    scene, horizon = _scene(random, side)
    measures = np.exp(random.normal(0, 0.08, 5)) * breed[-5:]
    dog = Breed(breed.name, _tinted(breed.base, random), _tinted(breed.second, random), *breed[3:-5], *measures)
    shape = _placed(_shape(dog, random), horizon, random, side)
    shadow = _mask(shape["shadow"], side).filter(ImageFilter.BoxBlur(side / 60)).point(lambda value: value * 0.4)
    scene.paste(_DARK, mask=shadow)
    coat, cover = _coat(dog, shape, random, side), Image.new("L", (side, side))
    far = coat.point(lambda value: value * 0.72)
    for part, filling in (("far", far), ("near", coat), ("head", coat), ("ear", dog.second), ("face", _DARK)):
        edge = _mask(shape[part] + np.array([0, 0, side / 200]), side)
        scene.paste(_DARK, mask=edge.point(lambda value: value * 0.7))
        scene.paste(filling, (0, 0, side, side), _mask(shape[part], side))
        cover = ImageChops.lighter(cover, edge)
    return _photograph(scene.reduce(_OVERSAMPLING), cover.reduce(_OVERSAMPLING), random)


def _shape(dog: Breed, random: Random) -> dict[str, Circles]:
    """The parts of a dog that stands or sits and looks to the right."""
    sits = random.random() < 0.35
    half, deep, r = dog.length / 2, dog.depth, dog.head
    chest = (half * (0.5 if sits else 0.85), -dog.legs - 0.55 * deep)
    hip = (-0.5 * half, -0.42 * deep) if sits else (-0.85 * half, -dog.legs - 0.58 * deep)
    x, y = chest[0] + 0.2 + 0.1 * dog.legs, chest[1] - 0.5 * deep - 0.9 * r + random.normal(0, 0.06)
    nose = (x + r * (0.55 + 0.9 * dog.muzzle), y + 0.35 * r)
    trunk = _stroke((*hip, 0.42 * deep), (*np.add(hip, chest) / 2, 0.4 * deep), (*chest, 0.5 * deep))
    neck = _stroke((*chest, 0.42 * deep), (x - 0.2 * r, y, 0.75 * r))
    rear, wag = (hip[0] - 0.38 * deep, hip[1] - 0.15 * deep, 0.07), random.normal(0, 0.08)
    tips = {"stub": (-0.08, -0.08, -0.02), "long": (-0.4, -0.14 + wag, -0.04), "curl": (0.05, -0.36 + wag, 0.04)}
    tail = _stroke(rear, np.add(rear, tips[dog.tail]))
    ears = {"down": (x - 0.5 * r, y + 0.6 * r, 0.4 * r), "up": (x - 0.5 * r, y - 1.5 * r, 0.05 * r)}
    tufted = {
        "far": _legs(dog, chest, hip, 0.12, random),
        "near": np.concatenate([trunk, _legs(dog, chest, hip, 0, random), neck, tail]),
        "head": _stroke((x, y, r), (x + 0.3 * r, y + 0.1 * r, 0.85 * r), (*nose, 0.4 * r)),
        "ear": _stroke((x - 0.32 * r, y - 0.5 * r, 0.35 * r), ears[dog.ears]),
    }
    return {part: circles + random.normal(0, 0.3 * dog.shag, circles.shape) for part, circles in tufted.items()} | {
        "bib": _stroke((x + 0.1 * r, y + 0.9 * r, 0.4 * r), (chest[0] + 0.4 * deep, chest[1], 0.2 * deep)),
        "face": np.array([(x + 0.45 * r, y - 0.2 * r, 0.13 * r), (nose[0] + 0.25 * r, nose[1] - 0.2 * r, 0.19 * r)]),
        "shadow": _stroke((hip[0] - 0.15, -0.01, 0.06), (chest[0] + 0.25, -0.01, 0.06)),
    }


def _legs(dog: Breed, chest: Point, hip: Point, shift: float, random: Random) -> Circles:
    """A front and a hind leg, moved by `shift` and by the dog's step."""
    bone, deep = 0.06 + 0.08 * dog.depth, dog.depth
    front, back = random.normal((chest[0] + shift, hip[0] + shift), 0.08)
    knee, hock = (hip[0] + 0.08, 0.6 * hip[1], 1.2 * bone), (back - 0.06, 0.3 * hip[1], 0.7 * bone)
    foot = (back + (0.09 if hip[1] < -0.5 * deep else 0.35), -0.045, 0.65 * bone)
    foreleg = _stroke((*chest, 0.3 * deep), (front, -0.05, 0.7 * bone), (front + 0.09, -0.045, 0.65 * bone))
    return np.concatenate([foreleg, _stroke((*hip, 0.4 * deep), knee, hock, (back, -0.05, 0.65 * bone), foot)])


def _stroke(*rows: Sequence[float] | Circles) -> Circles:
    """Circles close to each other along a line through rows of x, y and radius."""
    at = np.linspace(0, len(rows) - 1, 12 * len(rows))
    return np.stack([np.interp(at, np.arange(len(rows)), column) for column in zip(*rows, strict=True)], axis=1)


def _placed(shape: dict[str, Circles], horizon: float, random: Random, side: int) -> dict[str, Circles]:
    """The shape in pixels, with its paws on the ground, looking left or right."""
    every = np.concatenate(list(shape.values()))
    low, high = (every[:, :2] - every[:, 2:]).min(axis=0), (every[:, :2] + every[:, 2:]).max(axis=0)
    scale = random.uniform(0.68, 0.98) * side / (high - low).max()
    width, height = scale * (high - low)
    ground = random.uniform(min(max(horizon + 0.08 * side, height), 0.96 * side), 0.98 * side)
    facing, edge = (1, low[0]) if random.random() < 0.5 else (-1, high[0])
    shift = np.array([random.uniform(-0.02, 1.02) * (side - width) - facing * scale * edge, ground, 0])
    return {part: circles * scale * [facing, 1, 1] + shift for part, circles in shape.items()}


def _coat(dog: Breed, shape: dict[str, Circles], random: Random, side: int) -> Image.Image:
    """The whole picture as a coat, from which the parts of the dog are cut."""
    coat = Image.new("RGB", (side, side), dog.base)
    brush = ImageDraw.Draw(coat)
    body, trunk, head = shape["near"], shape["near"][:36], shape["head"]
    low, high = body[:, :2].min(axis=0), body[:, :2].max(axis=0)
    size = float((high - low).max())
    if "saddle" in dog.coat:
        _dot(brush, np.concatenate([trunk, head]) - np.array([0, 0.08 * size, 0]), dog.second)
    if "spots" in dog.coat:
        _dot(brush, random.uniform((*low, 0.01 * size), (*high, 0.03 * size), (70, 3)), dog.second)
    if "patches" in dog.coat:
        patches = trunk[random.integers(len(trunk), size=3)] * [1, 0.98, random.uniform(0.4, 0.7)]
        _dot(brush, np.concatenate([patches, head[:18]]), dog.second)
    if "stripes" in dog.coat:
        for x in np.arange(low[0], high[0], 0.035 * size):
            course = np.column_stack([x + random.normal(0, 0.012 * size, 6), np.linspace(low[1], high[1], 6)])
            brush.line(course.ravel().tolist(), dog.second, max(1, int(0.014 * size)))
    if "bib" in dog.coat:
        brush.rectangle((0, high[1] - 0.06 * size, side, side), _WHITE)
        _dot(brush, shape["bib"], _WHITE)
    return coat


def _scene(random: Random, side: int) -> tuple[Image.Image, float]:
    """A place for a dog, and the height of its horizon in pixels from the top."""
    *colours, hill, tree = (_tinted(colour, random) for colour in _SCENES[random.integers(len(_SCENES))])
    horizon = side * random.uniform(0.3, 0.65)
    levels = np.interp(np.arange(side), [0, horizon, horizon + 1, side], [0, 1, 2, 3])
    rows = np.stack([np.interp(levels, range(4), channel) for channel in zip(*colours, strict=True)], axis=1)
    scene = Image.fromarray(np.repeat(rows.astype(np.uint8)[:, None], side, axis=1))
    brush = ImageDraw.Draw(scene)
    ridge = _stroke(*[(x, random.uniform(-0.05, 0.2), 0.1) for x in np.linspace(-0.1, 1.1, 6)])
    _dot(brush, ridge * side + np.array([0, horizon, 0]), hill)
    for x in random.uniform(0, 1, random.integers(2, 7)):
        tall, size = random.uniform(0.02, 0.3), random.uniform(0.03, 0.07)
        brush.line((x * side, horizon - tall * side, x * side, horizon + 0.02 * side), _BARK, side // 32)
        leaves = random.normal([x, -tall, size], [0.04, 0.03, 0.012], (9, 3)) * side
        _dot(brush, leaves + np.array([0, horizon, 0]), _tinted(tree, random))
    return scene, horizon


def _photograph(scene: Image.Image, cover: Image.Image, random: Random) -> Image.Image:
    """The picture in some light: round where the dog is, with a tone, shadows and grain of its own."""
    side = scene.width
    height = np.asarray(cover.filter(ImageFilter.BoxBlur(side / 26)), np.float32) / 255
    relief = np.clip(np.tensordot([1, random.uniform(-0.8, 0.8)], np.gradient(height), 1) * side / 60, -0.35, 0.3)
    texture = 0.06 * (_noise(random, side, 24) + _noise(random, side, 80)) + 0.1 * _noise(random, side, 5)
    light = 1 + np.where(np.asarray(cover) > 0, relief, 0) + texture
    warmth, exposure = random.normal(0, [0.05, 0.12])
    photo = np.asarray(scene) * light[..., None] * np.exp(exposure + np.array([warmth, 0, -warmth]))
    grain = random.uniform(1, 7) * random.standard_normal(photo.shape, np.float32)
    photo = (photo - 120) * np.exp(random.normal(0, 0.12)) + 120 + grain
    image = Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0, 0.9) * side / 256))


def _noise(random: Random, side: int, cells: int) -> NDArray[np.float32]:
    """Smooth noise with about `cells` bumps a side, mostly within -1 to 1."""
    small = Image.fromarray(random.normal(0, 0.5, (cells, cells)).astype(np.float32))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


def _mask(circles: Circles, side: int) -> Image.Image:
    mask = Image.new("L", (side, side))
    _dot(ImageDraw.Draw(mask), circles, 255)
    return mask


def _dot(brush: ImageDraw.ImageDraw, circles: Circles, colour: Colour | int) -> None:
    for x, y, radius in np.maximum(circles, [-np.inf, -np.inf, 0.5]).tolist():
        brush.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def _tinted(colour: Colour, random: Random) -> Colour:
    """A colour a little lighter or darker, and a little of another hue."""
    red, green, blue = np.clip(colour * np.exp(random.normal(0, 0.09) + random.normal(0, 0.03, 3)), 8, 250)
    return int(red), int(green), int(blue)

"""Where the drawn dogs stand: grounds, skies and what stands around."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dogbreeds.data.sample.breeds import Colour
from dogbreeds.data.sample.outlines import ellipse, limb, smooth

# Far and near colour of what is above the horizon, then of the ground.
PLACES: dict[str, tuple[Colour, Colour, Colour, Colour]] = {
    "meadow": ((138, 188, 226), (214, 232, 238), (126, 168, 84), (92, 138, 62)),
    "beach": ((120, 186, 214), (206, 228, 228), (222, 202, 158), (204, 178, 128)),
    "room": ((206, 196, 178), (190, 176, 156), (158, 118, 82), (132, 94, 62)),
    "blue_room": ((136, 160, 172), (122, 144, 158), (176, 164, 150), (150, 138, 124)),
    "snow": ((176, 192, 210), (214, 222, 232), (232, 238, 244), (206, 216, 230)),
    "autumn": ((190, 180, 150), (222, 200, 160), (172, 124, 66), (136, 92, 52)),
    "street": ((172, 176, 180), (192, 190, 186), (138, 138, 140), (112, 112, 116)),
    "dusk": ((96, 92, 132), (226, 164, 134), (92, 98, 84), (66, 72, 66)),
}


def background(random: np.random.Generator, pixels: int) -> tuple[Image.Image, float]:
    """Draw a place for a dog.

    Args:
        random: Source of all choices.
        pixels: Side of the square picture.

    Returns:
        The picture and the height of the horizon as a fraction of its side from the top.
    """
    name = str(random.choice(list(PLACES)))
    horizon = float(random.uniform(0.30, 0.66))
    far_sky, near_sky, far_ground, near_ground = (
        np.clip(np.asarray(colour) * np.exp(random.normal(0.0, 0.10) + random.normal(0.0, 0.05, 3)), 0, 250)
        for colour in PLACES[name]
    )
    rows = np.linspace(0.0, 1.0, pixels)[:, None]
    sky = far_sky + (near_sky - far_sky) * np.clip(rows / horizon, 0, 1)
    ground = far_ground + (near_ground - far_ground) * np.clip((rows - horizon) / (1 - horizon), 0, 1)
    strip = np.where(rows < horizon, sky, ground).astype(np.uint8)[:, None, :]
    picture = Image.fromarray(strip).resize((pixels, pixels), Image.Resampling.NEAREST)
    _FURNISHING[name](_Brush(picture, random, pixels), horizon, (far_ground, near_ground))
    return picture, horizon


class _Brush:
    """Draws shapes given in fractions of the side of a picture."""

    def __init__(self, picture: Image.Image, random: np.random.Generator, pixels: int) -> None:
        self._draw = ImageDraw.Draw(picture)
        self._pixels = pixels
        self.random = random

    def fill(self, outline: NDArray[np.float64], colour: NDArray[np.float64] | Colour, tint: float = 1.0) -> None:
        red, green, blue = (int(min(255.0, value * tint)) for value in colour)
        self._draw.polygon((outline * self._pixels).ravel().tolist(), fill=(red, green, blue))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour, tint: float = 1.0) -> None:
        self.fill(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]), colour, tint)


Grounds = tuple[NDArray[np.float64], NDArray[np.float64]]


def _hills(brush: _Brush, horizon: float, colour: Colour) -> None:
    random = brush.random
    for layer in range(int(random.integers(1, 3))):
        x = np.linspace(-0.1, 1.1, 7)
        y = horizon - random.uniform(0.0, 0.13 - 0.04 * layer, 7)
        top = smooth(np.stack([x, y], axis=1), closed=False)
        brush.fill(np.concatenate([top, [[1.1, horizon + 0.01], [-0.1, horizon + 0.01]]]), colour, 1.1 - 0.15 * layer)


def _leafy(outline: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """An uneven, bumpy version of a round outline."""
    middle = outline.mean(axis=0)
    bumps = np.where(np.arange(len(outline)) % 2 == 0, 1.06, 0.96) * random.uniform(0.95, 1.06, len(outline))
    return smooth(middle + (outline - middle) * bumps[:, None], closed=True, steps=4)


def _bushes(brush: _Brush, horizon: float, colours: list[Colour]) -> None:
    random = brush.random
    for _ in range(int(random.integers(1, 5))):
        x, size = random.uniform(0, 1), random.uniform(0.07, 0.20)
        colour = colours[int(random.integers(len(colours)))]
        tint = float(random.uniform(0.75, 1.15))
        if random.random() < 0.4:
            brush.box(x - 0.02, horizon - 2 * size, x + 0.02, horizon + 0.03, (104, 78, 58))
            brush.fill(_leafy(ellipse(x, horizon - 2 * size, 0.9 * size, size), random), colour, tint)
        else:
            for offset in (-0.6, 0.55, 0.0):
                bush = ellipse(x + offset * size, horizon - 0.25 * size, 0.8 * size, (0.7 - 0.3 * abs(offset)) * size)
                brush.fill(_leafy(bush, random), colour, tint * (1.0 - 0.12 * abs(offset)))


def _blades(brush: _Brush, horizon: float, grounds: Grounds, count: int, height: float) -> None:
    random = brush.random
    for y in np.sort(random.uniform(horizon, 1.0, count)):
        x, lean, tall = random.uniform(0, 1), random.normal(0, 0.012), height * (0.4 + y)
        blade = np.array([[x - 0.006, y], [x + lean, y - tall], [x + 0.006, y]])
        brush.fill(blade, grounds[1], float(random.uniform(0.78, 1.25)))


def _specks(brush: _Brush, horizon: float, count: int, size: float, colours: list[Colour]) -> None:
    random = brush.random
    for y in np.sort(random.uniform(horizon, 1.0, count)):
        wide = size * (0.3 + y) * random.uniform(0.5, 1.3)
        speck = ellipse(random.uniform(0, 1), y, wide, 0.45 * wide, random.normal(0, 0.3))
        brush.fill(speck[::3], colours[int(random.integers(len(colours)))], float(random.uniform(0.8, 1.1)))


def _ball(brush: _Brush, horizon: float) -> None:
    random = brush.random
    if random.random() < 0.3:
        x, y, size = (
            random.uniform(0.05, 0.95),
            random.uniform(horizon + 0.15, 0.98),
            random.uniform(0.025, 0.055),
        )
        colour = ((206, 72, 62), (66, 122, 190), (228, 188, 70), (120, 176, 90))[int(random.integers(4))]
        brush.fill(ellipse(x, y, size, size), colour)
        brush.fill(ellipse(x - 0.3 * size, y - 0.35 * size, 0.3 * size, 0.22 * size), colour, 1.35)


def _meadow(brush: _Brush, horizon: float, grounds: Grounds) -> None:
    _hills(brush, horizon, (118, 158, 118))
    _bushes(brush, horizon, [(84, 128, 70), (104, 144, 78), (72, 110, 78)])
    _blades(brush, horizon, grounds, 90, 0.05)
    _specks(
        brush,
        horizon,
        int(brush.random.integers(0, 14)),
        0.014,
        [(240, 232, 214), (232, 198, 84), (206, 120, 140)],
    )
    _ball(brush, horizon)


def _beach(brush: _Brush, horizon: float, grounds: Grounds) -> None:
    random = brush.random
    brush.box(0, horizon - random.uniform(0.05, 0.14), 1, horizon, (84, 150, 172))
    brush.box(0, horizon - 0.012, 1, horizon + 0.008, (232, 238, 236))
    if random.random() < 0.4:
        _bushes(brush, horizon + 0.02, [(150, 140, 126), (128, 118, 108)])
    _specks(brush, horizon + 0.05, 50, 0.012, [(190, 164, 118), (236, 222, 186), (170, 148, 120)])
    _ball(brush, horizon)


def _room(brush: _Brush, horizon: float, grounds: Grounds) -> None:
    random = brush.random
    near = grounds[1]
    paints: list[Colour] = [
        (168, 84, 70),
        (78, 108, 126),
        (202, 164, 92),
        (116, 134, 104),
        (92, 72, 62),
        (224, 214, 198),
    ]

    def paint() -> Colour:
        return paints[int(random.integers(len(paints)))]

    if random.random() < 0.5:
        left, wide = random.uniform(0.0, 0.7), random.uniform(0.18, 0.32)
        brush.box(left, 0.03, left + wide, horizon - 0.12, (238, 234, 226))
        brush.box(left + 0.02, 0.05, left + wide - 0.02, horizon - 0.14, (172, 208, 226))
        brush.box(left + wide / 2 - 0.007, 0.05, left + wide / 2 + 0.007, horizon - 0.14, (238, 234, 226))
    for _ in range(int(random.integers(1, 4))):
        left, wide, tall = random.uniform(-0.1, 0.85), random.uniform(0.12, 0.42), random.uniform(0.10, 0.30)
        colour, base = paint(), horizon + random.uniform(0.0, 0.06)
        brush.box(left, base - tall, left + wide, base, colour)
        brush.box(left, base - tall, left + wide, base - 0.86 * tall, colour, 1.18)
        if random.random() < 0.6:
            brush.box(left + 0.02, base - 0.75 * tall, left + wide - 0.02, base - 0.12 * tall, colour, 0.86)
    brush.box(0, horizon - 0.022, 1, horizon, (230, 224, 212))
    for y in horizon + (1 - horizon) * np.linspace(0.05, 1.0, 7) ** 1.5:
        brush.box(0, float(y), 1, float(y) + 0.005, (float(near[0]), float(near[1]), float(near[2])), 0.86)
    if random.random() < 0.55:
        rug = ellipse(random.uniform(0.3, 0.7), random.uniform(0.82, 0.95), 0.46, random.uniform(0.08, 0.15))
        colour = paint()
        brush.fill(rug, colour)
        brush.fill((rug - rug.mean(axis=0)) * 0.85 + rug.mean(axis=0), colour, 1.12)
    _ball(brush, horizon)


def _snow(brush: _Brush, horizon: float, grounds: Grounds) -> None:
    _hills(brush, horizon, (178, 192, 212))
    _bushes(brush, horizon, [(88, 110, 104), (110, 128, 128), (206, 214, 224)])
    _specks(brush, horizon + 0.03, 30, 0.03, [(196, 208, 226), (240, 244, 250)])
    _specks(brush, 0.0, int(brush.random.integers(0, 40)), 0.008, [(250, 250, 252)])


def _autumn(brush: _Brush, horizon: float, grounds: Grounds) -> None:
    _hills(brush, horizon, (170, 150, 116))
    _bushes(brush, horizon, [(196, 112, 52), (176, 140, 60), (150, 76, 48), (110, 116, 64)])
    _specks(brush, horizon, 70, 0.022, [(204, 116, 48), (214, 160, 70), (140, 66, 44), (112, 84, 48)])


def _street(brush: _Brush, horizon: float, grounds: Grounds) -> None:
    random = brush.random
    left = -0.1
    while left < 1.0:
        wide, tall = random.uniform(0.15, 0.4), random.uniform(0.2, 0.7)
        colour = ((170, 120, 98), (188, 170, 140), (128, 138, 148), (150, 150, 140))[int(random.integers(4))]
        brush.box(left, horizon - tall, left + wide, horizon, colour, float(random.uniform(0.85, 1.1)))
        for x in np.arange(left + 0.03, left + wide - 0.05, 0.09):
            for y in np.arange(horizon - tall + 0.04, horizon - 0.1, 0.12):
                brush.box(float(x), float(y), float(x) + 0.045, float(y) + 0.065, (206, 214, 214), 0.85)
        left += wide
    brush.box(0, horizon - 0.01, 1, horizon + 0.02, (198, 196, 190))
    for x in np.linspace(-0.6, 1.6, 9):
        line = limb([[0.5 + 0.5 * (x - 0.5), horizon + 0.02], [x, 1.05]], [0.002, 0.004])
        brush.fill(line, grounds[1], 0.85)


def _dusk(brush: _Brush, horizon: float, grounds: Grounds) -> None:
    _hills(brush, horizon, (98, 92, 116))
    _bushes(brush, horizon, [(66, 74, 76), (84, 80, 84)])
    _blades(brush, horizon, grounds, 60, 0.05)


_FURNISHING: dict[str, Callable[[_Brush, float, Grounds], None]] = {
    "meadow": _meadow,
    "beach": _beach,
    "room": _room,
    "blue_room": _room,
    "snow": _snow,
    "autumn": _autumn,
    "street": _street,
    "dusk": _dusk,
}

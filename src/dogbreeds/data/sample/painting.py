"""Paint one picture of the sample: a dog of a breed in a place, in some light."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dogbreeds.data.sample.breeds import Breed, Colour, individual
from dogbreeds.data.sample.dog import build
from dogbreeds.data.sample.light import Pixels, noise, photograph
from dogbreeds.data.sample.outlines import Points, ellipse
from dogbreeds.data.sample.parts import Dog
from dogbreeds.data.sample.scenes import background

# Pictures are drawn larger and reduced, which smooths the edges.
OVERSAMPLING = 2

ToCanvas = Callable[[Points], Points]


def paint(breed: Breed, random: np.random.Generator, pixels: int) -> Image.Image:
    """Return one picture, `pixels` by `pixels`, RGB, of a dog of `breed`; all choices come from `random`."""
    dog = build(individual(breed, random), random)
    side = pixels * OVERSAMPLING
    place, horizon = background(random, side)
    turn, shift = _placement(dog, horizon, random)

    def to_canvas(outline: Points) -> Points:
        return np.asarray((outline @ turn + shift) * side, dtype=np.float64)

    texture = 1.0 + 0.10 * noise(random, pixels, 10) + 0.06 * noise(random, pixels, 48)
    scene = np.asarray(place.reduce(OVERSAMPLING), dtype=np.float32) * texture[..., None]
    scene *= _shadow(dog, to_canvas, pixels, random)[..., None]
    coat, cover = _paint_dog(dog, to_canvas, side)
    shaded = np.asarray(coat.reduce(OVERSAMPLING), dtype=np.float32)
    mask = cover.reduce(OVERSAMPLING)
    shaded = shaded * _relief(mask, random)[..., None]
    alpha = np.asarray(mask, dtype=np.float32)[..., None] / 255.0
    return photograph(scene + alpha * (shaded - scene), random)


def _placement(dog: Dog, horizon: float, random: np.random.Generator) -> tuple[Points, Points]:
    """Matrix and shift that bring dog units to fractions of the picture's side."""
    everything = np.concatenate([part.outline for part in dog.parts])
    angle = random.normal(0.0, 0.06)
    facing = 1.0 if random.random() < 0.5 else -1.0
    turn = np.array([[facing * np.cos(angle), np.sin(angle)], [-facing * np.sin(angle), np.cos(angle)]])
    # Measured after turning, so that a dog is never larger than the frame.
    turn *= float(random.uniform(0.74, 1.0)) / float(np.ptp(everything @ turn, axis=0).max())
    placed = everything @ turn
    low, high = placed.min(axis=0), placed.max(axis=0)
    room = 1.0 - (high - low)
    # Anywhere across, a little beyond the frame at most; the paws below the horizon.
    x = random.uniform(-0.03, room[0] + 0.03)
    y = random.uniform(max(0.25 * room[1], min(horizon + 0.10 - (high - low)[1], room[1])), room[1] + 0.02)
    return turn, np.array([x, y]) - low


def _shadow(dog: Dog, to_canvas: ToCanvas, pixels: int, random: np.random.Generator) -> Pixels:
    """Brightness, shape (pixels, pixels), of the scene with the shadow that the dog casts."""
    body = np.concatenate([part.outline for part in dog.parts if part.ink in ("body", "far")])
    left, right = np.percentile(body[:, 0], [4, 96])
    lean = random.normal(0.0, 0.25)
    outline = ellipse((left + right) / 2 + lean, dog.ground, 0.58 * (right - left), random.uniform(0.06, 0.13))
    image = Image.new("L", (pixels, pixels))
    ImageDraw.Draw(image).polygon((to_canvas(outline) / OVERSAMPLING).ravel().tolist(), fill=255)
    soft = np.asarray(image.filter(ImageFilter.BoxBlur(pixels / 90)), dtype=np.float32)
    return np.asarray(1.0 - soft * (random.uniform(0.18, 0.5) / 255.0), dtype=np.float32)


def _relief(mask: Image.Image, random: np.random.Generator) -> Pixels:
    """Brightness, shape (pixels, pixels), that makes the flat dog look round and softly hairy."""
    pixels = mask.size[0]
    height = np.asarray(mask.filter(ImageFilter.BoxBlur(pixels / 26)), dtype=np.float32) / 255.0
    down, across = np.gradient(height)
    light = (down + random.uniform(-0.8, 0.8) * across) * np.float32(pixels / 26)
    fur = 0.05 * noise(random, pixels, 24) + 0.05 * noise(random, pixels, 72)
    return np.asarray(np.clip(1.0 + 0.42 * light, 0.6, 1.3) + fur, dtype=np.float32)


def _paint_dog(dog: Dog, to_canvas: ToCanvas, side: int) -> tuple[Image.Image, Image.Image]:
    """Return the dog's colours, RGB, and where the dog is, L, both `side` by `side`."""
    body = _coat(dog.base, dog.body_marks, to_canvas, side)
    head = _coat(dog.base, dog.head_marks, to_canvas, side)
    coats = {
        "body": body,
        "head": head,
        "ear": Image.new("RGB", (side, side), _whole(dog.ear, 0.90)),
        "far": body.point(lambda value: value * 0.74),
    }
    picture, cover = coats["far"].copy(), Image.new("L", (side, side))
    draw_cover = ImageDraw.Draw(cover)
    line = max(1, round(side / 190))
    for part in dog.parts:
        outline = to_canvas(part.outline)
        box = _box(outline, line, side)
        if box is None:
            continue
        points = (outline - box[:2]).ravel().tolist()
        size = (box[2] - box[0], box[3] - box[1])
        stencil = Image.new("L", size)
        draw = ImageDraw.Draw(stencil)
        draw.polygon(points, fill=255)
        draw_cover.polygon(outline.ravel().tolist(), fill=255)
        if isinstance(part.ink, str):
            inside = coats[part.ink].crop(box)
            picture.paste(inside, box, stencil)
            if part.edge is not None:
                border = Image.new("L", size)
                course = (_below(part.outline, outline, part.edge) - box[:2]).ravel().tolist()
                ImageDraw.Draw(border).line(course, fill=170, width=line)
                picture.paste(inside.point(lambda value: value * 0.66), box, border)
        else:
            picture.paste(_whole(part.ink), box, stencil)
    return picture, cover


def _below(outline: Points, placed: Points, edge: float) -> Points:
    """The stretch of `placed` whose points in `outline` have y above `edge`; closed when all have."""
    keep = outline[:, 1] > edge
    if keep.all():
        return np.concatenate([placed, placed[:1]])
    first = int(np.argmin(keep))
    return np.asarray(np.roll(placed, -first, axis=0)[np.roll(keep, -first)], dtype=np.float64)


def _coat(base: Colour, marks: list[tuple[Points, Colour]], to_canvas: ToCanvas, side: int) -> Image.Image:
    coat = Image.new("RGB", (side, side), _whole(base))
    draw = ImageDraw.Draw(coat)
    for outline, colour in marks:
        draw.polygon(to_canvas(outline).ravel().tolist(), fill=_whole(colour))
    return coat


def _whole(colour: Colour, tint: float = 1.0) -> tuple[int, int, int]:
    red, green, blue = (int(min(255.0, value * tint)) for value in colour)
    return red, green, blue


def _box(outline: Points, margin: int, side: int) -> tuple[int, int, int, int] | None:
    """The part of the canvas, left, top, right, bottom, that an outline touches; None when outside."""
    left, top = (max(0, int(value) - margin) for value in outline.min(axis=0))
    right, bottom = (min(side, int(value) + margin + 1) for value in outline.max(axis=0))
    return (left, top, right, bottom) if left < right and top < bottom else None

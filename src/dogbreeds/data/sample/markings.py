"""The markings on the trunk, legs and tail of a drawn dog."""

from __future__ import annotations

import numpy as np

from dogbreeds.data.sample.breeds import Breed, Colour
from dogbreeds.data.sample.outlines import Points, limb, smooth, tufted
from dogbreeds.data.sample.parts import WHITE, Dog, beside


def add_body_marks(dog: Dog, breed: Breed, hip: Points, fore: Points, random: np.random.Generator) -> None:
    """Lay the markings of the breed, and a lighter belly, on the coat of trunk, legs and tail."""
    depth = breed.depth
    left, right = hip[0] - 0.5 * depth, fore[0] + 0.5 * depth
    top, bottom = min(hip[1], fore[1]) - 0.7 * depth, dog.ground

    def blot(x: float, y: float, size: float, colour: Colour) -> None:
        t = np.linspace(0.0, 2 * np.pi, 8, endpoint=False)
        radius = size * random.uniform(0.6, 1.25, 8)
        points = np.stack([x + radius * np.cos(t), y + 0.85 * radius * np.sin(t)], axis=1)
        dog.body_marks.append((smooth(points, closed=True, steps=4), colour))

    light = tuple(min(250.0, 1.12 * value + 5.0) for value in breed.base)
    belly = limb([beside(hip, 0.25, 0.5 * depth), beside(fore, 0.0, 0.62 * depth)], [0.10 * depth, 0.14 * depth])
    dog.body_marks.append((belly, (light[0], light[1], light[2])))
    for pattern in breed.patterns:
        if pattern == "saddle":
            low = random.uniform(-0.02, 0.16) * depth
            middle = 0.5 * (hip + fore)
            points = [
                beside(hip, -0.75 * depth, low + 0.02),
                beside(hip, -0.2, low - 0.75 * depth),
                beside(fore, 0.15, -0.95 * depth),
                beside(fore, 0.24, -0.30 * depth),
                beside(fore, -0.05, low + 0.02),
                beside(middle, 0.0, low + 0.10 * depth),
            ]
            blanket = smooth(np.asarray(points), closed=True)
            dog.body_marks.append((tufted(blanket, max(breed.shag, 0.03), random), breed.second))
        elif pattern == "spots":
            for _ in range(int(random.integers(55, 90))):
                blot(random.uniform(left - 0.4, right + 0.3), random.uniform(top, bottom),
                     random.uniform(0.016, 0.048), breed.second)  # fmt: skip
        elif pattern == "patches":
            for _ in range(int(random.integers(3, 6))):
                at = hip + random.uniform(-0.1, 1.05) * (fore - hip)
                blot(at[0], at[1] - random.uniform(-0.1, 0.5) * depth, random.uniform(0.11, 0.22), breed.second)
        elif pattern == "merle":
            for _ in range(int(random.integers(45, 70))):
                dark = random.uniform(0.0, 0.8)
                mixed = [dark * b + (1 - dark) * s for b, s in zip(breed.base, breed.second, strict=True)]
                blot(random.uniform(left - 0.4, right + 0.2), random.uniform(top, bottom),
                     random.uniform(0.02, 0.085), (mixed[0], mixed[1], mixed[2]))  # fmt: skip
        elif pattern == "brindle":
            for x in np.arange(left - 0.3, right + 0.3, random.uniform(0.035, 0.055)):
                lines = [
                    [x + random.normal(0, 0.02) + 0.05 * k, y] for k, y in enumerate(np.linspace(top, bottom, 6))
                ]
                thick = np.maximum(random.uniform(-0.006, 0.012, 6), 0.001)
                dog.body_marks.append((limb(lines, thick.tolist()), breed.second))
    if "bib" in breed.patterns:
        height = random.uniform(0.06, 0.16)
        socks = [[left - 0.5, bottom - height], [right + 0.6, bottom - height],
                 [right + 0.6, bottom + 0.1], [left - 0.5, bottom + 0.1]]  # fmt: skip
        dog.body_marks.append((np.asarray(socks), WHITE))

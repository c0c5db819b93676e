"""The head of a drawn dog: skull, muzzle, ears and face, with their markings."""

from __future__ import annotations

import numpy as np

from dogbreeds.data.sample.breeds import Breed
from dogbreeds.data.sample.outlines import Points, ellipse, limb, smooth, tufted
from dogbreeds.data.sample.parts import DARK, WHITE, Dog, Part


def add_head(dog: Dog, breed: Breed, centre: Points, random: np.random.Generator) -> None:
    """Add the head, turned between profile and facing the viewer, as a projection from three dimensions."""
    yaw = float(np.clip(abs(random.normal(0.35, 0.45)), 0.0, 1.35))
    pitch = float(random.normal(0.05, 0.16))
    size = breed.head
    away, toward = float(np.cos(yaw)), float(np.sin(yaw))
    nod = np.array([[np.cos(pitch), np.sin(pitch)], [-np.sin(pitch), np.cos(pitch)]])

    def project(*points: tuple[float, float, float]) -> Points:
        """Screen positions of points x ahead, y down and z to the viewer, in radii of the skull."""
        flat = np.array([[x * away - z * toward, y + 0.10 * x * toward] for x, y, z in points])
        return np.asarray(flat * size @ nod + centre, dtype=np.float64)

    def disc(x: float, y: float, z: float, width: float, height: float) -> Points:
        at = project((x, y, z))[0]
        return ellipse(at[0], at[1], width * size, height * size, pitch)

    reach, thick = breed.muzzle, 0.80 + 0.20 * breed.bone
    ears: dict[str, tuple[list[tuple[float, float, float]], list[float]]] = {
        "pricked": ([(-0.15, -0.55, 0.55), (-0.22, -1.05, 0.66), (-0.20, -1.60, 0.72)], [0.38, 0.27, 0.01]),
        "bat": ([(-0.20, -0.45, 0.68), (-0.32, -1.00, 0.95), (-0.34, -1.50, 1.10)], [0.32, 0.36, 0.17]),
        "dropped": (
            [(-0.25, -0.62, 0.70), (-0.42, -0.25, 1.00), (-0.45, 0.40, 1.02), (-0.36, 0.90, 0.92)],
            [0.20, 0.31, 0.33, 0.16],
        ),
        "folded": (
            [(-0.20, -0.60, 0.60), (-0.26, -1.08, 0.80), (-0.02, -1.00, 1.02), (0.12, -0.62, 1.08)],
            [0.30, 0.20, 0.24, 0.05],
        ),
    }
    points, radii = ears[breed.ears]
    shag = 0.7 * breed.shag if breed.ears in ("dropped", "folded") else 0.3 * breed.shag
    flap = float(random.normal(0.0, 0.08))

    def ear(side: float) -> Points:
        placed = [(x + flap * (k > 0), y, z * side) for k, (x, y, z) in enumerate(points)]
        return tufted(limb(project(*placed), [radius * size for radius in radii]), shag, random)

    def inner(side: float) -> Part:
        placed = [(x + 0.06, y + 0.12, z * side) for x, y, z in points]
        pink = tuple(0.45 * value + 0.55 * tone for value, tone in zip(dog.ear, (176, 112, 104), strict=True))
        return Part(
            limb(project(*placed), [0.52 * radius * size for radius in radii]),
            (pink[0], pink[1], pink[2]),
            None,
        )

    hanging = breed.ears == "dropped"
    upright = breed.ears in ("pricked", "bat")
    frontal = toward > 0.6
    if not (hanging and frontal):
        dog.parts.append(Part(ear(-1.0), "ear" if frontal else "far"))
    if upright and toward > 0.3:
        dog.parts.append(inner(-1.0))
    if not hanging:
        dog.parts.append(Part(ear(1.0), "ear"))
        if upright:
            dog.parts.append(inner(1.0))
    dog.parts.append(Part(tufted(disc(0.0, 0.0, 0.0, 1.0, 0.96), breed.shag, random), "head", edge=None))
    muzzle = limb(
        project((0.35, 0.22, 0.0), (0.35 + 0.6 * reach, 0.34, 0.0), (0.62 + reach, 0.36, 0.0)),
        [0.62 * size * thick, 0.47 * size * thick, 0.34 * size * thick],
    )
    dog.parts.append(Part(muzzle, "head", edge=-100.0 if toward > 0.35 else None))
    lip = project((0.62 + reach, 0.58, 0.0), (0.4 + 0.6 * reach, 0.66, 0.22), (0.45, 0.60, 0.50))
    dog.parts.append(Part(limb(lip, [0.02 * size, 0.035 * size, 0.01 * size]), DARK, None))
    if random.random() < 0.35:
        tongue = project((0.35 + 0.7 * reach, 0.66, 0.1), (0.40 + 0.7 * reach, 0.98, 0.12))
        dog.parts.append(Part(limb(tongue, [0.12 * size, 0.14 * size]), (214.0, 108.0, 112.0)))
    dog.parts.append(Part(disc(0.82 + reach, 0.22, 0.0, 0.20, 0.16), DARK, None))
    for side in (-1.0, 1.0):
        # The far eye comes into view as the head turns to the viewer.
        if side > 0 or toward > 0.45:
            dog.parts.append(Part(disc(0.72, -0.20, 0.50 * side, 0.135, 0.15), DARK, None))
            dog.parts.append(Part(disc(0.76, -0.26, 0.48 * side, 0.045, 0.045), WHITE, None))
    if hanging:
        dog.parts += [Part(ear(side), "ear") for side in ((-1.0, 1.0) if frontal else (1.0,))]
    if "bib" in breed.patterns:
        blaze = limb(
            project((0.35, -0.95, 0.0), (0.75, -0.30, 0.0), (0.55 + reach, 0.20, 0.0), (0.62 + reach, 0.50, 0.0)),
            [0.07 * size, 0.13 * size, 0.34 * size, 0.40 * size],
        )
        dog.head_marks.append((blaze, WHITE))
    if "mask" in breed.patterns:
        dog.head_marks.append((disc(0.55 + reach, 0.40, 0.0, 0.62, 0.50), breed.second))
    if "saddle" in breed.patterns:
        crown = smooth(project((-1.1, -0.2, 0.3), (-0.5, -1.1, 0), (0.6, -0.9, 0), (0.5, -0.35, 0.4)), closed=True)
        dog.head_marks.append((crown, breed.second))
    if "patches" in breed.patterns:
        dog.head_marks += [(disc(0.35, -0.3, side * 0.7, 0.62, 0.60), breed.second) for side in (-1.0, 1.0)]
    if "merle" in breed.patterns or "spots" in breed.patterns:
        for _ in range(9):
            x, y, z = random.uniform(-0.9, 1.0 + reach), random.uniform(-0.9, 0.6), random.uniform(-0.6, 0.6)
            spot = 0.5 * random.uniform(0.16, 0.42)
            dog.head_marks.append((disc(x, y, z, spot, 0.8 * spot), breed.second))

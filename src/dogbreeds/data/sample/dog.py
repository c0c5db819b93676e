"""One dog in a pose of its own: trunk, legs and tail, and how the parts overlap."""

from __future__ import annotations

import numpy as np

from dogbreeds.data.sample.breeds import Breed
from dogbreeds.data.sample.head import add_head
from dogbreeds.data.sample.markings import add_body_marks
from dogbreeds.data.sample.outlines import Points, ellipse, limb, tufted
from dogbreeds.data.sample.parts import WHITE, Dog, Ink, Part, beside


def build(breed: Breed, random: np.random.Generator) -> Dog:
    """Return a dog of the given measures in a pose of its own: standing, sitting or lying."""
    pose = random.choice(["standing", "sitting", "lying"], p=[0.62, 0.26, 0.12])
    ground = breed.depth * (1.02 if pose == "lying" else 0.88) + (0.0 if pose == "lying" else breed.legs)
    dog = Dog(breed.base, breed.second if breed.dark_ears else breed.base, ground)
    half, depth = breed.length / 2, breed.depth
    bone = 0.75 * breed.bone + 0.25
    fore = np.array([0.80 * half, 0.44 * depth])
    if pose == "sitting":
        hip = np.array([fore[0] - 0.66 * breed.length, max(ground - 0.25 * bone, 0.44 * depth)])
    else:
        hip = np.array([-0.84 * half, 0.42 * depth])
    # Walking legs swing; a limb of the far side is painted first and darker.
    swing = random.normal(0.0, 0.16, 4) * breed.legs
    for far in (True, False):
        ink: Ink = "far" if far else "body"
        hind = _hind_leg(str(pose), hip, ground, bone, depth, swing[0 + far], far)
        front = _front_leg(str(pose), fore, ground, bone, depth, swing[2 + far], far)
        shag = 0.6 * breed.shag
        if far:
            dog.parts += [Part(tufted(leg, shag, random), ink) for leg in (*hind, *front)]
            dog.parts.append(Part(tufted(_tail(breed, hip, pose == "sitting", random), breed.shag, random), "body"))
            _trunk(dog, breed, hip, fore, random)
        else:
            # No line where a leg of the near side grows out of the trunk.
            joint = 0.55 * depth if pose != "sitting" else hip[1] - 0.15
            dog.parts += [Part(tufted(leg, shag, random), ink, joint) for leg in hind]
            dog.parts += [Part(tufted(leg, shag, random), ink, 0.75 * depth) for leg in front]
    add_body_marks(dog, breed, hip, fore, random)
    raised = float(random.normal(0.0, 0.07))
    reach = 0.26 + 0.10 * breed.legs
    centre = fore + np.array([reach + 0.3 * raised, -0.46 - 0.16 * breed.legs + raised])
    neck = limb(
        [beside(fore, -0.10, 0.0), beside(fore, 0.45 * reach, -0.18), beside(centre, -0.02, 0.05)],
        [0.50 * depth, 0.17 * bone + 0.02, 0.72 * breed.head],
    )
    dog.parts.append(Part(tufted(neck, 1.1 * breed.shag, random), "body", edge=None))
    if "bib" in breed.patterns:
        chest = limb(
            [beside(centre, 0.06, 0.20), beside(fore, 0.22, -0.05), beside(fore, 0.14, 0.42 * depth)],
            [0.06, 0.15 * bone, 0.06],
        )
        dog.body_marks.append((tufted(chest, breed.shag, random), WHITE))
    add_head(dog, breed, centre, random)
    return dog


def _trunk(dog: Dog, breed: Breed, hip: Points, fore: Points, random: np.random.Generator) -> None:
    depth = breed.depth
    tuck = 0.60 + 0.25 * min(breed.bone - 0.6, 0.7)
    trunk = limb(
        [
            hip,
            0.68 * hip + 0.32 * beside(fore, 0.0, -0.03),
            0.3 * hip + 0.7 * beside(fore, 0.0, 0.04 * depth),
            fore,
        ],
        [0.43 * depth, 0.47 * tuck * depth + 0.03, 0.52 * depth, 0.46 * depth],
    )
    dog.parts.append(Part(tufted(trunk, breed.shag, random), "body", edge=None))


def _hind_leg(
    pose: str, hip: Points, ground: float, bone: float, depth: float, swing: float, far: bool
) -> list[Points]:
    shift = 0.10 if far else 0.0
    if pose != "standing":
        haunch = ellipse(hip[0] + 0.12 + shift, ground - 0.22 * bone, 0.24 * bone, 0.21 * bone, -0.4)
        x = hip[0] + 0.26 + shift
        foot = limb([[x - 0.10, ground - 0.055], [x + 0.05, ground - 0.05], [x + 0.16, ground - 0.045]],
                    [0.045 * bone, 0.055 * bone, 0.045 * bone])  # fmt: skip
        return [foot, haunch]
    x, y = hip[0] + shift, hip[1]
    below = ground - depth * 0.8
    leg = limb(
        [[x, y], [x + 0.05, depth * 0.85], [x - 0.07 + 0.5 * swing, ground - 0.48 * below],
         [x - 0.03 + swing, ground - 0.045], [x + 0.06 + swing, ground - 0.04]],
        [0.40 * depth, 0.115 * bone + 0.06 * depth, 0.056 * bone, 0.048 * bone, 0.042 * bone],
    )  # fmt: skip
    return [leg]


def _front_leg(
    pose: str, fore: Points, ground: float, bone: float, depth: float, swing: float, far: bool
) -> list[Points]:
    x, y = fore[0] + (0.09 if far else -0.02), fore[1]
    if pose == "lying":
        points = [
            [x - 0.05, y + 0.1],
            [x - 0.06, ground - 0.10],
            [x + 0.16, ground - 0.06],
            [x + 0.44, ground - 0.045],
        ]
        return [limb(points, [0.12 * bone, 0.09 * bone, 0.058 * bone, 0.05 * bone])]
    swing = 0.3 * swing if pose == "sitting" else swing
    middle = (depth * 0.9 + ground) / 2
    points = [[x, y + 0.05], [x - 0.03, depth * 0.85], [x + 0.01 + 0.5 * swing, middle],
              [x + swing, ground - 0.045], [x + 0.09 + swing, ground - 0.04]]  # fmt: skip
    return [limb(points, [0.13 * bone, 0.085 * bone, 0.058 * bone, 0.05 * bone, 0.042 * bone])]


def _tail(breed: Breed, hip: Points, sitting: bool, random: np.random.Generator) -> Points:
    shapes: dict[str, tuple[list[list[float]], list[float]]] = {
        "sickle": ([[0.1, 0.02], [-0.14, -0.04], [-0.32, -0.20], [-0.36, -0.46]], [0.07, 0.05, 0.035, 0.012]),
        "curled": (
            [[0.08, 0.04], [-0.08, -0.18], [0.0, -0.38], [0.18, -0.38], [0.22, -0.22], [0.12, -0.18]],
            [0.08, 0.085, 0.085, 0.075, 0.06, 0.03],
        ),
        "docked": ([[0.08, 0.04], [-0.04, -0.08], [-0.10, -0.17]], [0.07, 0.055, 0.04]),
        "plumed": (
            [[0.1, 0.02], [-0.16, 0.02], [-0.36, 0.12], [-0.55, 0.08], [-0.68, -0.06]],
            [0.06, 0.075, 0.11, 0.10, 0.02],
        ),
    }
    points, radii = shapes[breed.tail]
    angle = random.normal(0.0, 0.22) + (0.25 if sitting and breed.tail != "curled" else 0.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    size = float(np.exp(random.normal(0.0, 0.10))) * (0.8 + 0.2 * breed.bone)
    root = beside(hip, -0.30 * breed.depth, -0.24 * breed.depth)
    # A sitting dog turns its croup to the ground: the tail lies lower, and backward.
    if sitting:
        root = beside(root, 0.02, 0.10)
    return limb(np.asarray(points) * size @ turn + root, (np.asarray(radii) * size).tolist())

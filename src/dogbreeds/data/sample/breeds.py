"""The invented breeds of the drawn sample, and how one dog of a breed differs from the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Colour = tuple[float, float, float]
Pattern = Literal["saddle", "spots", "patches", "brindle", "merle", "bib", "mask"]
Ears = Literal["pricked", "dropped", "folded", "bat"]
Tail = Literal["curled", "sickle", "docked", "plumed"]


@dataclass(frozen=True)
class Breed:
    """What makes a breed: colours, coat and proportions.

    Lengths are in dog units: a middling dog stands about 1 unit high at the shoulder.

    Attributes:
        name: Folder name of the breed, words joined by underscores.
        base: Main colour of the coat, red, green and blue in 0..255.
        second: Colour of the saddle, the spots, the stripes, the mask and of dark ears.
        patterns: Markings laid over the main colour, in drawing order.
        shag: Length of the tufts on the outline; 0 is a smooth coat.
        ears: How the ears are carried.
        tail: How the tail is carried.
        muzzle: Length of the muzzle as a fraction of the head's radius.
        legs: Free length of the legs below the chest.
        length: Length of the trunk.
        depth: Height of the chest.
        bone: Thickness of legs, neck and muzzle relative to a middling dog.
        head: Radius of the skull.
        dark_ears: Whether the ears have the second colour.
    """

    name: str
    base: Colour
    second: Colour
    patterns: tuple[Pattern, ...]
    shag: float
    ears: Ears
    tail: Tail
    muzzle: float
    legs: float
    length: float
    depth: float
    bone: float
    head: float
    dark_ears: bool = False


BREEDS: tuple[Breed, ...] = (
    Breed("Amber_pointer", (196, 128, 62), (122, 70, 34), ("bib",), 0.0, "dropped", "sickle",
          1.25, 0.60, 1.15, 0.48, 0.90, 0.205),
    Breed("Frostvale_spitz", (226, 222, 214), (92, 94, 104), ("saddle",), 0.055, "pricked", "curled",
          0.95, 0.46, 1.00, 0.52, 1.05, 0.225, True),
    Breed("Marsh_spaniel", (238, 230, 216), (118, 64, 36), ("patches",), 0.050, "dropped", "docked",
          0.95, 0.36, 1.05, 0.48, 0.95, 0.215, True),
    Breed("Copper_badgerhound", (178, 98, 48), (52, 36, 32), ("saddle",), 0.0, "dropped", "sickle",
          1.20, 0.15, 1.45, 0.44, 1.00, 0.205, True),
    Breed("Ember_bulldog", (142, 98, 64), (70, 48, 38), ("brindle", "bib", "mask"), 0.0, "bat", "docked",
          0.45, 0.33, 0.95, 0.56, 1.35, 0.255),
    Breed("Slate_shepherd", (150, 158, 172), (60, 64, 76), ("merle", "bib"), 0.045, "folded", "plumed",
          1.05, 0.50, 1.12, 0.48, 0.95, 0.205),
    Breed("Domino_hound", (240, 238, 232), (44, 42, 44), ("spots",), 0.0, "dropped", "sickle",
          1.10, 0.60, 1.10, 0.48, 0.95, 0.205, True),
    Breed("Saffron_corgel", (222, 146, 70), (150, 88, 40), ("bib",), 0.035, "bat", "plumed",
          0.90, 0.16, 1.20, 0.48, 1.05, 0.230),
    Breed("Coal_terrier", (58, 54, 56), (34, 32, 36), (), 0.045, "folded", "docked",
          0.95, 0.28, 0.90, 0.44, 1.00, 0.220),
    Breed("Dune_windhound", (206, 178, 140), (168, 138, 102), ("brindle",), 0.0, "folded", "sickle",
          1.45, 0.74, 1.10, 0.46, 0.70, 0.170),
    Breed("Ivory_herder", (240, 228, 200), (198, 172, 130), (), 0.060, "pricked", "plumed",
          1.00, 0.48, 1.12, 0.54, 1.10, 0.215),
    Breed("Harbour_retriever", (70, 52, 44), (40, 30, 28), ("bib",), 0.030, "dropped", "plumed",
          1.00, 0.50, 1.10, 0.54, 1.15, 0.230),
)  # fmt: skip


def individual(breed: Breed, random: np.random.Generator) -> Breed:
    """Return one dog of `breed`: the same kind with its own shade of coat and proportions."""

    def vary(value: float, spread: float) -> float:
        return float(value * np.exp(random.normal(0.0, spread)))

    def shade(colour: Colour) -> Colour:
        tint = np.exp(random.normal(0.0, 0.08) + random.normal(0.0, 0.03, 3))
        red, green, blue = np.clip(np.asarray(colour) * tint, 8, 250)
        return float(red), float(green), float(blue)

    return replace(
        breed,
        base=shade(breed.base),
        second=shade(breed.second),
        shag=vary(breed.shag, 0.2),
        muzzle=vary(breed.muzzle, 0.08),
        legs=vary(breed.legs, 0.10),
        length=vary(breed.length, 0.06),
        depth=vary(breed.depth, 0.06),
        bone=vary(breed.bone, 0.07),
        head=vary(breed.head, 0.06),
    )

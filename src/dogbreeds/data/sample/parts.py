"""What a drawn dog consists of: outlines in dog units with their inks, and marks on its coats."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from dogbreeds.data.sample.breeds import Colour
from dogbreeds.data.sample.outlines import Points

Ink = Literal["body", "head", "ear", "far"] | Colour


@dataclass(frozen=True)
class Part:
    """One filled outline.

    Attributes:
        outline: Shape (n, 2) in dog units, x to where the dog looks, y down.
        ink: A flat colour, or the coat that shows through the outline.
        edge: A darker line follows the outline where y is above this, that is, below on the picture;
            None for no line.
    """

    outline: Points
    ink: Ink
    edge: float | None = -100.0


@dataclass
class Dog:
    """A dog ready to be painted: its parts from back to front, and the marks on its two coats.

    Attributes:
        parts: In painting order.
        body_marks: Outlines with their colour, painted on the coat of trunk, legs and tail.
        head_marks: The same for the coat of the head.
        base: Main colour of the coat.
        ear: Colour of the ears.
        ground: The y at which the dog touches the ground.
    """

    base: Colour
    ear: Colour
    ground: float
    parts: list[Part] = field(default_factory=list)
    body_marks: list[tuple[Points, Colour]] = field(default_factory=list)
    head_marks: list[tuple[Points, Colour]] = field(default_factory=list)


WHITE: Colour = (240.0, 236.0, 228.0)
DARK: Colour = (30.0, 25.0, 26.0)


def beside(point: Points, x: float, y: float) -> Points:
    """Return the point `x` ahead of and `y` below `point`."""
    return np.asarray(point + np.array([x, y]), dtype=np.float64)

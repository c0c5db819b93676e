"""Outlines for drawn dogs: smooth curves, limbs of changing thickness, and shaggy edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def smooth(points: Points, *, closed: bool, steps: int = 8) -> Points:
    """Return a Catmull-Rom curve through `points`.

    Args:
        points: Shape (n, d), the points that the curve passes through.
        closed: Whether the curve returns to the first point.
        steps: Points drawn between two neighbours.

    Returns:
        Shape (m, d).
    """
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, start, end, after = (padded[k : len(padded) - 3 + k, None, :] for k in range(4))
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    curve = curve.reshape(-1, points.shape[1])
    return curve if closed else np.concatenate([curve, points[-1:]])


def ellipse(x: float, y: float, width: float, height: float, angle: float = 0.0) -> Points:
    """Return the outline, shape (28, 2), of an ellipse with half-axes `width` and `height`."""
    t = np.linspace(0.0, 2 * np.pi, 28, endpoint=False)
    across, down = width * np.cos(t), height * np.sin(t)
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([x + across * cosine - down * sine, y + across * sine + down * cosine], axis=1)


def limb(centres: Points | Sequence[Points] | Sequence[Sequence[float]], radii: Sequence[float]) -> Points:
    """Return the outline, shape (m, 2), of a limb along `centres` with a half-thickness at each."""
    line = smooth(np.column_stack([np.asarray(centres, dtype=float), radii]), closed=False)
    middle, radius = line[:, :2], np.maximum(line[:, 2:], 0.004)
    direction = np.gradient(middle, axis=0)
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    t = np.linspace(0.0, np.pi, 8)[1:-1, None]
    tip = middle[-1] + radius[-1] * (np.cos(t) * normal[-1] + np.sin(t) * direction[-1])
    root = middle[0] - radius[0] * (np.cos(t) * normal[0] + np.sin(t) * direction[0])
    return np.concatenate([middle + radius * normal, tip, (middle - radius * normal)[::-1], root])


def tufted(outline: Points, length: float, random: np.random.Generator) -> Points:
    """Return `outline` with tufts of hair of about `length` that hang slightly down.

    A length too small to be seen returns the outline as it is.
    """
    if length < 0.01:
        return outline
    closed = np.concatenate([outline, outline[:1]])
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    count = max(8, int(travelled[-1] / (0.55 * length)) // 2 * 2)
    at = np.linspace(0.0, travelled[-1], count, endpoint=False)
    points = np.stack([np.interp(at, travelled, closed[:, k]) for k in range(2)], axis=1)
    along = np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    next_points = np.roll(points, -1, axis=0)
    area = np.sum(points[:, 0] * next_points[:, 1] - next_points[:, 0] * points[:, 1])
    outward = np.stack([along[:, 1], -along[:, 0]], axis=1) * np.sign(area)
    reach = np.where(np.arange(count) % 2 == 1, length * random.uniform(0.35, 1.15, count), 0.0)[:, None]
    return np.asarray(points + reach * (outward + np.array([0.0, 0.45])), dtype=np.float64)

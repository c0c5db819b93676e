"""Light and camera: uneven light, exposure, colour temperature, blur and noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.float32]


def noise(random: np.random.Generator, pixels: int, cells: int) -> Pixels:
    """Return smooth noise, shape (pixels, pixels), roughly -1..1, with about `cells` bumps a side."""
    small = Image.fromarray(random.normal(0.0, 0.5, (cells, cells)).astype(np.float32))
    return np.asarray(small.resize((pixels, pixels), Image.Resampling.BICUBIC), dtype=np.float32)


def photograph(scene: Pixels, random: np.random.Generator) -> Image.Image:
    """Take the photo: uneven light, exposure, colour temperature, a little blur and sensor noise.

    Args:
        scene: Shape (pixels, pixels, 3), values 0..255.
        random: Source of all choices.
    """
    pixels = scene.shape[0]
    across = np.linspace(-0.5, 0.5, pixels, dtype=np.float32)
    slope = random.normal(0.0, 0.14, 2)
    light = 1.0 + np.float32(slope[0]) * across[None, :] + np.float32(slope[1]) * across[:, None]
    if random.random() < 0.2:
        # Light through leaves.
        light *= 1.0 - 0.28 * np.clip(4.0 * noise(random, pixels, int(random.integers(4, 9))), 0.0, 1.0)
    light *= np.float32(np.exp(random.normal(0.0, 0.13)))
    warmth = random.normal(0.0, 0.055)
    tone = np.exp(np.array([warmth, random.normal(0.0, 0.025), -warmth])).astype(np.float32)
    contrast = np.float32(np.exp(random.normal(0.0, 0.12)))
    photo = (scene * light[..., None] * tone - 120.0) * contrast + 120.0
    grain = random.uniform(1.0, 7.0)
    photo += np.float32(grain) * random.standard_normal(scene.shape, dtype=np.float32)
    image = Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8))
    if random.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(float(random.uniform(0.2, 1.1)) * pixels / 256))
    return image

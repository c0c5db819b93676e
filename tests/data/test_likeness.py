"""The same picture is known again, another one is not taken for it."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image

from dogbreeds.data.likeness import ALIKE, likeness, thumbnail


def encoded(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def changes(image: Image.Image) -> dict[str, bytes]:
    width, height = image.size
    box = (round(0.05 * width), round(0.05 * height), round(0.95 * width), round(0.95 * height))
    sides = (0, 0, round(0.92 * width), height)
    return {
        "encoded": encoded(image, 30),
        "cropped": encoded(image.crop(box)),
        "cropped on one side": encoded(image.crop(sides)),
        "mirrored": encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        "smaller": encoded(image.resize((width // 2, height // 2))),
        "gray": encoded(image.convert("L")),
    }


def test_changed_copies_are_alike_and_other_photos_are_not(sample: Path) -> None:
    files = sorted(sample.rglob("*.jpg"))[::10]
    for file, other in pairwise(files):
        image = Image.open(file)
        changed = changes(image)
        whole = thumbnail(encoded(image)).expand(len(changed), -1, -1)
        copies = torch.stack([thumbnail(content) for content in changed.values()])
        found = dict(zip(changed, likeness(whole, copies).tolist(), strict=True))
        assert min(found.values()) > ALIKE, found
        assert torch.equal(likeness(whole, copies), likeness(copies, whole))
        assert likeness(whole[:1], thumbnail(other.read_bytes())[None]) < ALIKE


def test_photos_of_one_colour_are_like_nothing() -> None:
    plain = torch.full((1, 24, 24), 200.0)
    assert likeness(plain, plain) == 0

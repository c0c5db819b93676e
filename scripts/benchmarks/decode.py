"""Case `decode`: from the bytes of a photo to what a trunk takes, on one core."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from itertools import islice

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from benchmarks.timing import paired, ratio, seconds_of
from dogbreeds.data.images import check, decode
from dogbreeds.data.layout import find_photos
from dogbreeds.data.transform import Transform

_PHOTOS = 200
# Shorter sides in pixels; None is the photos as they are. Larger ones are made of the same photos.
_SIDES = (None, 480, 768, 1500, 3024)
_LARGE_PHOTOS = 20
_FILTERS = ("bilinear", "bicubic")
_HASH, _CHECK = "SHA-256", "structure"


def run(settings: BenchSettings) -> Section:
    """Times each step over photos of several sizes, in turns, beside resizing all of a photo as torchvision does."""
    files = sorted(path for path in find_photos(settings.photos).photos() if path.suffix.lower() in (".jpg", ".jpeg"))
    own = [path.read_bytes() for path in islice(files, 0, None, max(1, len(files) // _PHOTOS))]
    rows: list[tuple[str, ...]] = []
    numbers: dict[str, float] = {}
    for side in _SIDES:
        photos = own if side is None else [_enlarged(content, side) for content in own[:_LARGE_PHOTOS]]
        size = f"{side or 'own'}"
        steps = _steps()
        times = paired({name: _over(photos, step) for name, step in steps.items()}, settings.rounds)
        for name in steps:
            rate = len(photos) / times[name].median
            whole = f"whole, {name}"
            gain = ratio(times[whole], times[name]) if whole in times else None
            rows.append((size, name, f"{rate:,.0f}", "" if gain is None else f"{gain:.2f}"))
            numbers[f"{size} {name}"] = rate
            if gain is not None:
                numbers[f"{size} {name} against whole"] = gain
    return Section(
        title="decode",
        text=f"JPEG files on one core, {len(own)} as they are and {_LARGE_PHOTOS} enlarged to a shorter side, "
        f"{settings.rounds} rounds in turns, each beside decoding and resizing all of a photo before it is cropped: "
        "256 pixels, of which the middle 224 are shown.",
        columns=("shorter side", "", "photos/s and core (median)", "times the whole photo"),
        rows=rows,
        numbers=numbers,
    )


def _steps() -> dict[str, Callable[[bytes], object]]:
    transforms = {name: Transform(256, 224, name, (0.5,) * 3, (0.5,) * 3) for name in _FILTERS}
    return {
        _HASH: lambda content: hashlib.sha256(content).hexdigest(),
        _CHECK: check,
        **{name: transform.read for name, transform in transforms.items()},
        **{f"whole, {name}": _whole(transform) for name, transform in transforms.items()},
    }


def _whole(transform: Transform) -> Callable[[bytes], torch.Tensor]:
    def read(content: bytes) -> torch.Tensor:
        mode = InterpolationMode(transform.interpolation)
        resized = functional.resize(decode(content), [transform.resize], mode, antialias=True)
        pixels: torch.Tensor = functional.pil_to_tensor(functional.center_crop(resized, [transform.crop]))
        return pixels

    return read


def _over(photos: Sequence[bytes], step: Callable[[bytes], object]) -> Callable[[], float]:
    return lambda: seconds_of(lambda: [step(content) for content in photos])


def _enlarged(content: bytes, side: int) -> bytes:
    image = decode(content)
    scale = side / min(image.size)
    large = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    large.save(file, "JPEG", quality=88)
    return file.getvalue()

"""Augmented views: random to the eye, and always the same for a photo and a number."""

from __future__ import annotations

import hashlib
import io
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dogbreeds.data.images import UnreadableImageError, decode
from dogbreeds.data.transform import Transform
from dogbreeds.data.views import read_view, view_name

TRANSFORM = Transform(resize=36, crop=32, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
WIDTH, HEIGHT = 240, 160


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def noise(seed: int, size: tuple[int, int] = (48, 40)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return png(Image.fromarray(pixels))


def named(contents: list[bytes]) -> list[str]:
    return [hashlib.sha256(content).hexdigest() for content in contents]


def views(contents: list[bytes], view: int, transform: Transform = TRANSFORM) -> list[Tensor]:
    read = read_view(contents, named(contents), view, transform)
    images = [image for image in read if isinstance(image, Tensor)]
    assert len(images) == len(contents)
    return images


def test_a_view_is_always_the_same() -> None:
    contents = [noise(seed) for seed in range(3)]
    first = views(contents, 1)
    random.seed(5)
    torch.manual_seed(5)
    states = random.getstate(), torch.get_rng_state()
    again = views(contents[::-1], 1)[::-1]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert torch.equal(views(contents[1:2], 1)[0], first[1])
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


def test_threads_change_nothing() -> None:
    contents = [noise(seed) for seed in range(8)]
    tasks = [(content, view) for content in contents for view in range(1, 9)] * 4

    def read(task: tuple[bytes, int]) -> Tensor:
        return views([task[0]], task[1])[0]

    alone = [read(task) for task in tasks]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(read, tasks))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_views_differ_from_each_other_and_from_what_evaluation_sees() -> None:
    content = noise(0)
    seen = [views([content], view)[0] for view in range(1, 9)] + [TRANSFORM(decode(content))]
    assert len({image.numpy().tobytes() for image in seen}) == 9


def test_photos_are_cropped_differently_whatever_they_show() -> None:
    digests = [hashlib.sha256(bytes([number])).hexdigest() for number in range(8)]
    crops = [crop for crop in read_view([noise(0)] * 8, digests, 1, TRANSFORM) if isinstance(crop, Tensor)]
    assert len({crop.numpy().tobytes() for crop in crops}) == 8


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 500), (500, 3), (31, 33), (32, 32), (640, 480), (1, 250)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_photos_of_any_size_become_the_crop(size: tuple[int, int], interpolation: str) -> None:
    transform = replace(TRANSFORM, interpolation=interpolation)
    content = noise(1, size)
    for view in range(1, 6):
        (crop,) = views([content], view, transform)
        assert (crop.dtype, crop.shape) == (torch.uint8, (3, 32, 32))
        assert crop.is_contiguous()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_photos_of_any_kind_become_rgb(mode: str) -> None:
    image = Image.new(mode, (50, 40))
    file = io.BytesIO()
    image.save(file, "JPEG" if mode == "CMYK" else "PNG")
    (crop,) = views([file.getvalue()], 1)
    assert (crop.dtype, crop.shape) == (torch.uint8, (3, 32, 32))


def test_the_transform_decides_size_and_filter() -> None:
    content = noise(2, (400, 300))
    small, bicubic = (
        views([content], 1, replace(TRANSFORM, crop=24))[0],
        views([content], 1, replace(TRANSFORM, interpolation="bicubic"))[0],
    )
    assert small.shape == (3, 24, 24)
    assert not torch.equal(bicubic, views([content], 1)[0])


def test_of_a_large_jpeg_only_a_part_is_decoded_and_the_view_stays() -> None:
    small = Image.open(io.BytesIO(noise(5, (8, 6))))
    file = io.BytesIO()
    small.resize((1600, 1200), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
    content = file.getvalue()
    whole = png(decode(content))
    for view in range(1, 6):
        part, expected = (read_view([one], ["0" * 64], view, TRANSFORM)[0] for one in (content, whole))
        assert isinstance(part, Tensor) and isinstance(expected, Tensor)
        assert float((part.int() - expected.int()).abs().float().mean()) < 1


def test_what_is_no_photo_says_so_in_its_place() -> None:
    contents = [noise(0), b"no photo", noise(1), b"", noise(2)[:100]]
    read = read_view(contents, named(contents), 1, TRANSFORM)
    assert [isinstance(image, Tensor) for image in read] == [True, False, True, False, False]
    errors = [image for image in read if isinstance(image, UnreadableImageError)]
    assert [str(error) for error in errors[:2]] == ["not an image", "the file is empty"]


def test_views_have_names_of_their_own() -> None:
    names = [view_name(view) for view in range(5)]
    assert names[0] == "evaluation"
    assert len(set(names)) == 5


# --- what is drawn


class Crop(NamedTuple):
    """Its edges as shares of the photo."""

    left: float
    right: float
    top: float
    bottom: float
    mirrored: bool


@pytest.fixture(scope="module")
def crops() -> list[Crop]:
    """Views of a photo that shows them where it was cut: red grows to the right, green grows to the bottom."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, :, 0] = np.linspace(0, 255, WIDTH).round()[None]
    pixels[:, :, 1] = np.linspace(0, 255, HEIGHT).round()[:, None]
    content = png(Image.fromarray(pixels))
    found = []
    for view in range(1, 301):
        red, green, _ = views([content], view)[0].float() / 255
        columns, rows = red.mean(dim=0), green.mean(dim=1)
        left, right, top, bottom = (float(edge) for edge in (columns[0], columns[-1], rows[0], rows[-1]))
        # The first and the last of 32 columns show their middles, half a column inside the crop.
        half_column, half_row = abs(right - left) / 31 / 2, (bottom - top) / 31 / 2
        found.append(
            Crop(
                min(left, right) - half_column,
                max(left, right) + half_column,
                top - half_row,
                bottom + half_row,
                right < left,
            )
        )
    return found


def test_crops_cover_a_third_to_all_of_the_photo(crops: list[Crop]) -> None:
    areas = [(crop.right - crop.left) * (crop.bottom - crop.top) for crop in crops]
    assert 0.32 < min(areas) < 0.4
    assert 0.85 < max(areas) < 1.04
    assert len({round(area, 2) for area in areas}) > 30


def test_crops_are_nearly_square(crops: list[Crop]) -> None:
    ratios = [WIDTH * (crop.right - crop.left) / (HEIGHT * (crop.bottom - crop.top)) for crop in crops]
    assert 0.7 < min(ratios) < 0.85
    assert 1.2 < max(ratios) < 1.42


def test_crops_lie_anywhere_in_the_photo(crops: list[Crop]) -> None:
    lefts, rights, tops, bottoms = (np.array(edges) for edges in list(zip(*crops, strict=True))[:4])
    assert lefts.min() < 0.05 and rights.max() > 0.95 and tops.min() < 0.05 and bottoms.max() > 0.95
    assert abs(float(np.mean(lefts + rights)) - 1) < 0.05
    assert abs(float(np.mean(tops + bottoms)) - 1) < 0.05


def test_half_of_the_views_are_mirrored(crops: list[Crop]) -> None:
    assert 0.4 < sum(crop.mirrored for crop in crops) / len(crops) < 0.6


def test_a_photo_that_no_crop_fits_into_is_cut_in_the_middle() -> None:
    pixels = np.zeros((20, 400, 3), np.uint8)
    pixels[:, 190:210] = 255
    for view in range(1, 20):
        (crop,) = views([png(Image.fromarray(pixels))], view)
        assert int(crop.min()) > 200

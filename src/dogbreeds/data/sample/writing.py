"""Write the sample as breed folders: all of it or nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from dogbreeds.data.sample.breeds import BREEDS
from dogbreeds.data.sample.painting import paint
from dogbreeds.errors import UserError

# Raise this whenever a change alters the pictures: samples drawn before are then told apart.
DRAWING_VERSION = 1
SPLITS = ("train", "valid", "test")
MAXIMUM_BREEDS = len(BREEDS)
DESCRIPTION = "sample.json"


def make_sample(
    directory: Path,
    *,
    breeds: int,
    train: int,
    valid: int,
    test: int,
    pixels: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw the sample as `directory`/{train,valid,test}/001.<Name>/<Name>_00001.jpg.

    Each picture depends only on the seed, its breed, split and number, and on `pixels`: more pictures
    or breeds leave the others as they are. When `directory` already holds this very sample, nothing
    is done. The folder appears under its name only when it is complete.

    Args:
        directory: Folder to make; it must not hold anything else.
        breeds: How many breeds, 2 to `MAXIMUM_BREEDS`.
        train: Pictures per breed to learn from.
        valid: Pictures per breed to choose with.
        test: Pictures per breed to judge with.
        pixels: Side of the square pictures.
        seed: Another seed draws other dogs of the same breeds.
        progress: Called with the number of pictures drawn and their total after each.

    Raises:
        UserError: If a number is out of range or `directory` holds something else.
    """
    counts = {"train": train, "valid": valid, "test": test}
    _check(breeds, counts, pixels, seed)
    description = {
        "drawing": DRAWING_VERSION,
        "breeds": breeds,
        **counts,
        "pixels": pixels,
        "seed": seed,
    }
    if _holds(directory, description):
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = directory.with_name(f".{directory.name}.unfinished-{os.getpid()}")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    try:
        _write(unfinished, breeds, counts, pixels, seed, progress)
        (unfinished / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        # Someone else may have filled the folder meanwhile.
        if not _holds(directory, description):
            if directory.exists():
                directory.rmdir()
            unfinished.rename(directory)
    finally:
        if unfinished.exists():
            shutil.rmtree(unfinished)


def draw_picture(seed: int, breed: int, split: str, number: int, pixels: int) -> Image.Image:
    """Return one picture of the sample, RGB.

    Args:
        seed: Seed of the sample.
        breed: Index of the breed from 0.
        split: One of `SPLITS`.
        number: Number of the picture from 1.
        pixels: Side of the square picture.
    """
    random = np.random.default_rng([seed, breed, SPLITS.index(split), number])
    return paint(BREEDS[breed], random, pixels)


def _check(breeds: int, counts: dict[str, int], pixels: int, seed: int) -> None:
    for name, value in {"breeds": breeds, **counts, "pixels": pixels, "seed": seed}.items():
        if not isinstance(value, int):
            raise UserError(f"{name}={value}: a whole number is needed.")
    if not 2 <= breeds <= MAXIMUM_BREEDS:
        raise UserError(f"breeds={breeds}: the sample has 2 to {MAXIMUM_BREEDS} breeds.")
    for split, count in counts.items():
        if count < 1:
            raise UserError(f"{split}={count}: each split needs at least 1 picture per breed.")
    if pixels < 64:
        raise UserError(f"pixels={pixels}: a picture needs a side of at least 64 pixels.")
    if seed < 0:
        raise UserError(f"seed={seed}: the seed is a whole number from 0 up.")


def _holds(directory: Path, description: dict[str, int]) -> bool:
    """Whether `directory` is the sample described; False when there is nothing there yet."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return False
    marker = directory / DESCRIPTION
    if not marker.is_file():
        raise UserError(f"{directory} holds something else than a sample: choose another folder with dir=<folder>.")
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{marker} is damaged: delete {directory}, or choose another dir=<folder>.") from error
    if found != description:
        raise UserError(
            f"{directory} holds a sample drawn with other settings ({_words(found)}; asked for now: "
            f"{_words(description)}): delete it, or choose another folder with dir=<folder>."
        )
    for split in SPLITS:
        expected = description["breeds"] * description[split]
        pictures = sum(1 for _ in (directory / split).glob("*/*.jpg"))
        if pictures != expected:
            raise UserError(
                f"{directory / split} has {pictures} of the sample's {expected} pictures: delete {directory} "
                "and draw it again."
            )
    return True


def _words(description: object) -> str:
    if not isinstance(description, dict):
        return "unknown"
    return ", ".join(f"{name}={value}" for name, value in description.items())


def _write(
    directory: Path,
    breeds: int,
    counts: dict[str, int],
    pixels: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    total, done = breeds * sum(counts.values()), 0
    for split, count in counts.items():
        for breed in range(breeds):
            name = BREEDS[breed].name
            folder = directory / split / f"{breed + 1:03d}.{name}"
            folder.mkdir(parents=True)
            for number in range(1, count + 1):
                picture = draw_picture(seed, breed, split, number, pixels)
                picture.save(folder / f"{name}_{number:05d}.jpg", quality=90)
                done += 1
                if progress is not None:
                    progress(done, total)

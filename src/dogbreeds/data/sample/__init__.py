"""Drawn dogs of invented breeds as breed folders, for the demo and the tests, where no photos exist."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dogbreeds.data.layout import SPLITS
from dogbreeds.data.sample.drawing import BREEDS, draw
from dogbreeds.errors import UserError
from dogbreeds.files import writing

_DRAWING = 2  # raised with every change of the pictures
_DESCRIPTION = "sample.json"


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
    """Draws the sample as `directory`/{train,valid,test}/001.<Name>/<Name>_00001.jpg, all of it or nothing.

    A picture depends on the seed, its breed, split and number, and `pixels` alone: more pictures or breeds leave
    the others as they are. A sample that is already there is left as it is. `train`, `valid` and `test` are pictures
    per breed; `progress` is called after each picture with the number drawn and the total.

    Raises:
        UserError: `directory` holds something else.
    """
    settings = {"breeds": breeds, "train": train, "valid": valid, "test": test, "pixels": pixels, "seed": seed}
    places = [(s, b, n) for s in SPLITS for b in range(breeds) for n in range(1, settings[s] + 1)]
    description = json.dumps({"drawing": _DRAWING, **settings}, indent=2) + "\n"
    if _is_drawn(directory, description, len(places)):
        return
    unfinished = directory.with_name(f".{directory.name}.unfinished-{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    with writing(directory):
        try:
            for done, (split, breed, number) in enumerate(places, 1):
                name = BREEDS[breed].name
                folder = unfinished / split / f"{breed + 1:03d}.{name}"
                folder.mkdir(parents=True, exist_ok=True)
                random = np.random.default_rng([seed, breed, SPLITS.index(split), number])
                draw(BREEDS[breed], random, pixels).save(folder / f"{name}_{number:05d}.jpg", quality=90)
                if progress is not None:
                    progress(done, len(places))
            (unfinished / _DESCRIPTION).write_text(description, "utf-8")
            # Another process may have drawn it meanwhile.
            if not _is_drawn(directory, description, len(places)):
                unfinished.replace(directory)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _is_drawn(directory: Path, description: str, pictures: int) -> bool:
    """Whether `directory` holds the sample; False if it is empty or does not exist."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return False
    marker, found = directory / _DESCRIPTION, len(list(directory.glob("*/*/*.jpg")))
    if not marker.is_file() or marker.read_text("utf-8") != description or found != pictures:
        advice = "Choose another folder with dir=FOLDER, or move it away."
        raise UserError(f"{directory} holds something other than the sample asked for. {advice}")
    return True

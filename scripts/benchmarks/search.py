"""Case `search`: four trials of five epochs over one feature pass, against the loop of the replaced systems."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks import processes
from benchmarks.photos import enlarge
from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from dogbreeds.data.layout import find_photos

_TRIALS, _EPOCHS = 4, 5
_SAMPLE = 128
# The dog photos of the replaced systems: 9,025 to train on, 3,929 to validate and test.
_FULL_TRAIN, _FULL_VALID = 9025, 3929


def run(settings: BenchSettings) -> Section:
    """Times a search that starts with an empty store, and the pass alone; the loop on a sample of the photos."""
    ratios, searches, passes, loops = [], [], [], []
    with tempfile.TemporaryDirectory() as directory:
        photos = enlarge(settings.photos, Path(directory) / "photos", settings.count)
        found = find_photos(photos)
        splits = {split: len(found.photos(split)) for split in found.splits}
        for number in range(settings.rounds):
            place = [f"data.dir={photos}", "model=resnet50", "model.weights=random"]
            where = [f"hydra.sweep.dir={directory}/search-{number}", f"cache.dir={directory}/cache-{number}"]
            search = ["hpo=random", f"hpo.trials={_TRIALS}", f"epochs={_EPOCHS}"]
            searches.append(processes.run("train.py", "-m", *search, *place, *where))
            alone = f"cache.dir={directory}/alone-{number}"
            passes.append(processes.run("scripts/prepare_features.py", *place, alone))
            loops.append(processes.pixel_loop(photos, _SAMPLE))
            ratios.append(searches[-1] / passes[-1])
    trained, evaluated = splits["train"], settings.count - splits["train"]
    slow = [_TRIALS * _EPOCHS * (trained * one.train + evaluated * one.evaluate) for one in loops]
    factor = statistics.median(a / b for a, b in zip(slow, searches, strict=True))
    full = [_TRIALS * _EPOCHS * (_FULL_TRAIN * one.train + _FULL_VALID * one.evaluate) for one in loops]
    # Start-up does not grow with the photos, but is let grow here: the ratio is rather too small.
    ours = [whole * (_FULL_TRAIN + _FULL_VALID) / settings.count for whole in searches]
    full_factor = statistics.median(a / b for a, b in zip(full, ours, strict=True))
    return Section(
        title="search",
        text=f"{_TRIALS} trials of {_EPOCHS} epochs with ResNet50, {settings.count:,} photos, {settings.rounds} "
        "rounds, start-up included. The loop runs every photo through the network in every epoch; it is timed on "
        f"{_SAMPLE} photos in the same round and extrapolated, as is all for {_FULL_TRAIN + _FULL_VALID:,} photos.",
        columns=("", "seconds", "ratio"),
        rows=(
            ("one feature pass alone", f"{statistics.median(passes):.0f}", "1"),
            ("ours: pass and trials", f"{statistics.median(searches):.0f}", f"{statistics.median(ratios):.2f}"),
            ("pixel loop, the same photos", f"{statistics.median(slow):.0f}", f"{factor:.0f} times ours"),
            (
                f"pixel loop, {_FULL_TRAIN + _FULL_VALID:,} photos",
                f"{statistics.median(full):.0f}",
                f"{full_factor:.0f} times ours",
            ),
        ),
        numbers={
            "search_over_pass": statistics.median(ratios),
            "loop_over_search": factor,
            "loop_over_search_full": full_factor,
            "search_seconds": statistics.median(searches),
        },
    )

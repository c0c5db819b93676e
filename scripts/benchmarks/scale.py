"""Case `scale`: where seconds and memory of a run go whose features exist, and how they grow with the photos."""

from __future__ import annotations

import hashlib
import itertools
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.processes import Part, watched
from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from dogbreeds.features.source import FeatureSource
from dogbreeds.features.store.segments import Layout
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.files import read_json
from dogbreeds.model.backbones import load_backbone, trunk_of
from dogbreeds.run_directory import METRICS

_CLASSES, _EPOCHS = 100, 5
# The width of ResNet50, whose weights name the drawn features; it computes none of them.
_BACKBONE, _WIDTH = "resnet50", 2048
# The centre of a class against the noise of a photo, in each feature: a linear head errs at some percent of photos.
_CENTRE, _NOISE = 0.09, 1.0
# Of so many photos one is nearly the same as the one before.
_COPIES = 1000
_BATCH = 5000


def run(settings: BenchSettings) -> Section:
    """Times the parts of a first and of a second run over features that were drawn, in processes of their own."""
    measured = {photos: _runs(photos) for photos in settings.sizes}
    rows: list[tuple[str, ...]] = []
    numbers: dict[str, float] = {}
    for name in next(iter(measured.values()))[0]:
        cells = []
        for photos, (first, again) in measured.items():
            cells += [f"{first[name].seconds:.1f}", f"{again[name].seconds:.1f}", f"{first[name].gigabytes:.2f}"]
            numbers[f"{photos} {name} first seconds"] = first[name].seconds
            numbers[f"{photos} {name} seconds"] = again[name].seconds
            numbers[f"{photos} {name} gigabytes"] = max(first[name].gigabytes, again[name].gigabytes)
        rows.append((name, *cells))
    return Section(
        title="scale",
        text=f"Whole runs of {_EPOCHS} epochs over vectors of {_WIDTH:,} that the store has, of {_CLASSES} classes "
        "with random centres; 80% train. Seconds of the first run, which hashes the photos and solves the "
        "reference, and of the next one; the largest resident memory in GB that is not a mapped file (RssAnon + "
        "RssShmem) of the first. The photos are PNG files of one pixel, so reading, hashing and decoding real ones "
        "are not measured, nor is the pass that computes features.",
        columns=("part", *(f"{photos:,}: {kind}" for photos in measured for kind in ("first s", "next s", "GB"))),
        rows=rows,
        numbers=numbers,
    )


def _runs(photos: int) -> tuple[dict[str, Part], dict[str, Part]]:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        fill_store(place / "cache", make_photos(place / "photos", photos))
        chosen = [
            f"data.dir={place / 'photos'}",
            f"cache.dir={place / 'cache'}",
            f"model={_BACKBONE}",
            "model.weights=random",
            "features.engine=torch",
            "features.precision=fp32",
            f"epochs={_EPOCHS}",
        ]
        first, again = (watched(place / name, "train.py", *chosen) for name in ("first", "again"))
        if read_json(place / "first" / METRICS)["features"]["computed"]:
            raise RuntimeError("the run did not find the features that were drawn for it")
        return first, again


def make_photos(directory: Path, photos: int) -> Iterator[tuple[str, int]]:
    """Writes different files of one pixel into class folders; yields the digest and the class of each."""
    for label in range(_CLASSES):
        (directory / f"{label:03}.breed").mkdir(parents=True)
    for number in range(photos):
        label = number % _CLASSES
        content = _png(number)
        (directory / f"{label:03}.breed" / f"{number}.png").write_bytes(content)
        yield hashlib.sha256(content).hexdigest(), label


def fill_store(directory: Path, photos: Iterator[tuple[str, int]]) -> None:
    """Publishes drawn features of photos, where a run looks for those of its trunk."""
    backbone = load_backbone(_BACKBONE, "random", seed=0)
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((_CLASSES, _WIDTH), dtype=np.float32) * _CENTRE
    with FeatureStore(directory, 1e12) as store:
        source = FeatureSource(
            store,
            trunk_of(backbone, None, mirror=False),
            device=torch.device("cpu"),
            engine="torch",
            precision="fp32",
            batch_size=None,
            workers=None,
            progress=lambda done, total: None,
        )
        array = store.array(source.key("torch", 0), Layout((_WIDTH,), "float32"))
        while part := list(itertools.islice(photos, _BATCH)):
            features = generator.standard_normal((len(part), _WIDTH), dtype=np.float32) * _NOISE
            features += centres[[label for _, label in part]]
            features[_COPIES - 1 :: _COPIES] = features[_COPIES - 2 :: _COPIES] + 0.1 * features[_COPIES - 1 :: _COPIES]
            array.publish([digest for digest, _ in part], features)


def _png(number: int) -> bytes:
    """A grey pixel, and a number that no decoder looks at."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    chunks = {b"IHDR": header, b"tEXt": b"number\0%d" % number, b"IDAT": zlib.compress(b"\0\x80"), b"IEND": b""}
    found = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(found)

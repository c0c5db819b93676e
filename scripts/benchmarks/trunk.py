"""Case `trunk`: from JPEG files to stored features, against the loop of the replaced systems."""

from __future__ import annotations

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks import processes
from benchmarks.photos import enlarge
from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from dogbreeds.data.images import read_all
from dogbreeds.data.layout import find_photos
from dogbreeds.features.engines import available, build, worker_count
from dogbreeds.features.engines.reference import resolve_precision
from dogbreeds.model.backbones import load_backbone, trunk_of

_SAMPLE = 128
_ALONE = 512


def run(settings: BenchSettings) -> Section:
    """Times the whole command with start-up, an empty store, and ResNet50; the loop on a sample of the photos."""
    with tempfile.TemporaryDirectory() as directory:
        photos = enlarge(settings.photos, Path(directory) / "photos", settings.count)
        ours, loops = [], []
        for number in range(settings.rounds):
            loops.append(processes.pixel_loop(photos, _SAMPLE))
            ours.append(
                processes.run(
                    "scripts/prepare_features.py",
                    f"data.dir={photos}",
                    "model=resnet50",
                    "model.weights=random",
                    f"cache.dir={directory}/cache-{number}",
                )
            )
        parts = _parts(photos)
    count = settings.count
    fp32 = [loop.start + count * loop.evaluate for loop in loops]
    bf16 = [loop.start + count * loop.evaluate_bf16 for loop in loops]
    ratios = {
        "against_fp32": statistics.median(a / b for a, b in zip(fp32, ours, strict=True)),
        "against_bf16": statistics.median(a / b for a, b in zip(bf16, ours, strict=True)),
    }
    seconds = statistics.median(ours)
    limit = min(parts.values())
    rows = [
        ("eager fp32 loop", f"{statistics.median(fp32):.0f}", f"{count / statistics.median(fp32):.1f}", "1"),
        (
            "eager bf16 loop (autocast)",
            f"{statistics.median(bf16):.0f}",
            f"{count / statistics.median(bf16):.1f}",
            f"{ratios['against_fp32'] / ratios['against_bf16']:.1f}",
        ),
        ("ours, to stored features", f"{seconds:.0f}", f"{count / seconds:.1f}", f"{ratios['against_fp32']:.1f}"),
        *((name, "", f"{rate:.0f}", "") for name, rate in parts.items()),
    ]
    return Section(
        title="trunk",
        text=f"ResNet50 with random weights over {count:,} JPEG files, start-up included, {settings.rounds} rounds. "
        f"The loops are measured on {_SAMPLE} photos in a process of their own in the same round, and extrapolated. "
        f"Ours reaches {count / seconds / limit:.0%} of the slower of its parts, start-up included.",
        columns=("", "seconds", "photos/s", "times the fp32 loop"),
        rows=rows,
        numbers={
            "photos": count,
            "share_of_limit": count / seconds / limit,
            "ours_seconds": seconds,
            "fp32_seconds": statistics.median(fp32),
            **ratios,
        },
    )


def _parts(folder: Path) -> dict[str, float]:
    """Photos per second of decoding alone and of the forward pass alone, with all workers."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trunk = trunk_of(load_backbone("resnet50", "random", 0), None)
    engine = build(
        available(device)[0],
        trunk.layers,
        trunk.fingerprint,
        trunk.transform,
        device=device,
        precision=resolve_precision("auto", device),
        batch_size=None,
        workers=worker_count(None),
        cache=None,
    )
    files = sorted(find_photos(folder).photos())[:_ALONE]
    contents = [path.read_bytes() for path in files]
    batches = [contents[start : start + engine.batch_size] for start in range(0, len(contents), engine.batch_size)]
    side = trunk.transform.crop
    images = torch.randint(0, 256, (_ALONE, 3, side, side), dtype=torch.uint8)
    engine(images[: engine.batch_size * engine.workers])
    with ThreadPoolExecutor(engine.workers) as pool:
        began = time.perf_counter()
        list(pool.map(lambda batch: read_all(batch, trunk.transform), batches))
        decoded = time.perf_counter()
        list(pool.map(engine, images.split(engine.batch_size)))
        ended = time.perf_counter()
    return {
        "decoding alone": len(contents) / (decoded - began),
        f"forward pass alone ({engine.name} {engine.precision})": _ALONE / (ended - decoded),
    }

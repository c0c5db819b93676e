"""Case `trunk`: from JPEG files to stored features, against the loop of the replaced systems, and int8 beside it."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks import processes
from benchmarks.photos import enlarge
from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from dogbreeds.data.layout import find_photos
from dogbreeds.data.transform import read_all
from dogbreeds.features.engines import available, build, worker_count
from dogbreeds.features.engines.reference import resolve_precision
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.model.backbones import Trunk, load_backbone, trunk_of
from dogbreeds.model.network import Graph

_SAMPLE = 128
_ALONE = 512
#: Precisions of ours, where OpenVINO runs; each pass is made from nothing, and then with its networks kept.
_PRECISIONS = ("auto", "int8")
_ROUNDS_ALONE = 3


def run(settings: BenchSettings) -> Section:
    """Times the whole command with start-up, no features, and ResNet50; the loop on a sample of the photos."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precisions = _PRECISIONS if "openvino" in available(device) else _PRECISIONS[:1]
    count, median = settings.count, statistics.median
    loops = []
    nothing: dict[str, list[float]] = {precision: [] for precision in precisions}
    kept: dict[str, list[float]] = {precision: [] for precision in precisions}
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        photos = enlarge(settings.photos, place / "photos", count)
        for number in range(settings.rounds):
            loops.append(processes.pixel_loop(photos, _SAMPLE))
            for precision in precisions:
                first, second = (place / f"{precision}-{number}-{way}" for way in ("nothing", "kept"))
                nothing[precision].append(_pass(photos, first, precision))
                # Everything but the features.
                if (first / "artefacts").is_dir():
                    shutil.copytree(first / "artefacts", second / "artefacts")
                kept[precision].append(_pass(photos, second, precision))
        graph = _quantised(place / "int8-0-nothing") if "int8" in precisions else None
        parts = _parts(photos, device, graph)
    fp32 = [loop.start + count * loop.evaluate for loop in loops]
    bf16 = [loop.start + count * loop.evaluate_bf16 for loop in loops]
    ways = {"eager fp32 loop": fp32, "eager bf16 loop (autocast)": bf16}
    for precision in precisions:
        ways[f"ours, {precision}, from nothing"] = nothing[precision]
        ways[f"ours, {precision}, networks kept"] = kept[precision]
    numbers = {
        "photos": count,
        "ours_seconds": median(nothing["auto"]),
        "fp32_seconds": median(fp32),
        "against_fp32": _ratio(fp32, nothing["auto"]),
        "against_bf16": _ratio(bf16, nothing["auto"]),
    }
    if graph is not None:
        numbers["int8_from_nothing"] = _ratio(nothing["auto"], nothing["int8"])
        numbers["int8_networks_kept"] = _ratio(kept["auto"], kept["int8"])
    for precision in precisions:
        slower = min(parts["decoding alone"], parts[f"forward pass alone, {precision}"])
        numbers[f"share_of_slower_part_{precision}"] = parts[f"both in turn, {precision}"] / slower
    return Section(
        title="trunk",
        text=f"ResNet50 with random weights over {count:,} JPEG files, start-up included, {settings.rounds} rounds. "
        f"The loops are measured on {_SAMPLE} photos in a process of their own in the same round, and extrapolated. "
        "Ratios are medians over the rounds. The parts, without start-up, are the median of "
        f"{_ROUNDS_ALONE} turns; decoding and the forward pass share the cores.",
        columns=("", "seconds", "photos/s", "times the fp32 loop"),
        rows=[
            *(
                (name, f"{median(times):.0f}", f"{count / median(times):.1f}", f"{_ratio(fp32, times):.1f}")
                for name, times in ways.items()
            ),
            *((name, "", f"{rate:.0f}", "") for name, rate in parts.items()),
        ],
        numbers=numbers,
    )


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def _pass(photos: Path, cache: Path, precision: str) -> float:
    return processes.run(
        "scripts/prepare_features.py",
        f"data.dir={photos}",
        "model=resnet50",
        "model.weights=random",
        f"features.precision={precision}",
        f"cache.dir={cache}",
    )


def _trunk() -> Trunk:
    return trunk_of(load_backbone("resnet50", "random", 0), None)


def _quantised(cache: Path) -> Graph:
    """Returns the network that a pass in int8 left; its only one of that kind."""
    (path,) = (cache / "artefacts").glob("int8-*.xml")
    blobs = BlobCache.of(cache)
    structure, weights = (blobs.get(path.with_suffix(ending).name) for ending in (".xml", ".bin"))
    assert structure is not None and weights is not None
    return Graph(structure, weights)


def _parts(folder: Path, device: torch.device, graph: Graph | None) -> dict[str, float]:
    """Photos per second of decoding alone, of the forward pass alone and of both, with all workers."""
    trunk = _trunk()
    engines = {
        precision: build(
            available(device)[0],
            trunk.layers,
            trunk.fingerprint,
            trunk.transform,
            device=device,
            precision=resolve_precision(precision, device),
            batch_size=None,
            workers=worker_count(None),
            cache=None,
            int8=graph if precision == "int8" else None,
        )
        for precision in (_PRECISIONS if graph else _PRECISIONS[:1])
    }
    contents = [path.read_bytes() for path in sorted(find_photos(folder).photos())[:_ALONE]]
    side = trunk.transform.crop
    images = torch.randint(0, 256, (len(contents), 3, side, side), dtype=torch.uint8)

    def decode(batch: Sequence[bytes]) -> torch.Tensor:
        return torch.stack([image for image in read_all(batch, trunk.transform) if isinstance(image, torch.Tensor)])

    rates: dict[str, list[float]] = {}
    for _ in range(1 + _ROUNDS_ALONE):
        for precision, engine in engines.items():
            size = engine.batch_size
            batches = [contents[start : start + size] for start in range(0, len(contents), size)]
            with ThreadPoolExecutor(engine.workers) as pool:
                times = [time.perf_counter()]
                list(pool.map(decode, batches))
                times.append(time.perf_counter())
                list(pool.map(engine, images.split(size)))
                times.append(time.perf_counter())
                list(pool.map(lambda batch, engine=engine: engine(decode(batch)), batches))
                times.append(time.perf_counter())
            names = ("decoding alone", f"forward pass alone, {precision}", f"both in turn, {precision}")
            for name, began, ended in zip(names, times, times[1:], strict=False):
                rates.setdefault(name, []).append(len(contents) / (ended - began))
    # The first turn allocates memory and chooses kernels.
    return {name: statistics.median(values[1:]) for name, values in rates.items()}

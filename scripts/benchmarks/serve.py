"""Case `serve`: a server and its clients on one machine, compared with the predictor alone."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import torch

from benchmarks import processes
from benchmarks.photos import enlarge
from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from benchmarks.timing import Times, paired, ratio, seconds_of
from dogbreeds.errors import UserError
from dogbreeds.features.engines import available
from dogbreeds.features.engines.reference import resolve_precision
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.machine import compute_threads
from dogbreeds.model.backbones import cut, load_backbone
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.network import Network
from dogbreeds.package.package import Description, save_package
from dogbreeds.package.predictor import Predictor

_BACKBONES = ("squeezenet1_1", "resnet50")
_CLASSES = 133
_CLIENTS = 16
_BATCH = 32
# Photos of a round: in batches or by many clients, and one at a time.
_MANY = {"squeezenet1_1": 960, "resnet50": 320}
_ALONE = 300
_START_SECONDS = 120.0


def run(settings: BenchSettings) -> Section:
    """Times batches, 16 clients at once, and one photo at a time, in turns."""
    rows: list[tuple[str, ...]] = []
    numbers: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        photos = enlarge(settings.photos, Path(directory) / "photos", _ALONE)
        for name in _BACKBONES:
            package = _package(settings, name, Path(directory) / name)
            found, lines = _measure(package, photos, Path(directory) / "cache", settings.rounds, _MANY[name])
            numbers |= {f"{name} {what}": value for what, value in found.items()}
            rows += [(name, *line) for line in lines]
    return Section(
        title="serve",
        text=f"JPEG files over HTTP on one machine, the clients in a process of their own, {settings.rounds} rounds "
        f"in turns. The predictor alone runs in one thread per stream of the engine with batches of {_BATCH}, or "
        f"in one thread photo by photo, as a server calls it. The slowest are 1% of {_ALONE} photos.",
        columns=("", "", "photos/s (median)", "slowest 1% (ms, median)", "ratio (median)"),
        rows=rows,
        numbers=numbers,
    )


def _package(settings: BenchSettings, name: str, directory: Path) -> Path:
    """Makes a package with an untrained head, and random weights unless there are real ones."""
    weights = settings.weights if settings.weights is not None and name == settings.backbone else "random"
    backbone = load_backbone(name, weights, seed=0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = HeadShape("linear", backbone.width, _CLASSES)
    description = Description(
        classes=[f"{number:03}.Breed" for number in range(_CLASSES)],
        backbone=name,
        pretrained=weights != "random",
        unfreeze=None,
        transform=backbone.transform,
        head=shape,
        engine=available(device)[0],
        precision=resolve_precision("auto", device),
        temperature=1.0,
    )
    trunk, tail = cut(backbone.stages, backbone.transform, None)
    save_package(directory, description, Network(trunk, tail, Head(shape)))
    return directory


def _measure(
    package: Path, folder: Path, cache: Path, rounds: int, many: int
) -> tuple[dict[str, float], list[tuple[str, ...]]]:
    blobs = BlobCache.of(cache)
    full, single = (Predictor.load(package, cache=blobs, one_by_one=one_by_one) for one_by_one in (False, True))
    photos = [path.read_bytes() for path in sorted(folder.rglob("*.jp*g"))]
    batches = [[photos[(start + place) % len(photos)] for place in range(_BATCH)] for start in range(0, many, _BATCH)]
    slowest: dict[str, list[float]] = {"predictor": [], "server": []}

    def predictor() -> float:
        return seconds_of(lambda: list(pool.map(full.predict_each, batches)))

    def predictor_alone() -> float:
        each = [seconds_of(partial(single.predict_each, [photo])) for photo in photos]
        slowest["predictor"].append(_p99(each))
        return sum(each)

    def server() -> float:
        return processes.asking(port, _CLIENTS, len(batches) * _BATCH, folder).seconds

    def server_alone() -> float:
        asked = processes.asking(port, 1, len(photos), folder)
        slowest["server"].append(_p99(asked.each))
        return asked.seconds

    with compute_threads(1), ThreadPoolExecutor(full.engine.workers) as pool, serving(package, cache) as port:
        # The first use does not count.
        full.predict_each(photos[:_BATCH])
        single.predict_each(photos[:1])
        server_alone()
        slowest["server"].clear()
        contestants = {
            "predictor": predictor,
            "server": server,
            "predictor_alone": predictor_alone,
            "server_alone": server_alone,
        }
        times = paired(contestants, rounds)
    tails = {name: Times(tuple(seconds)) for name, seconds in slowest.items()}
    throughput, tail = ratio(times["predictor"], times["server"]), ratio(tails["server"], tails["predictor"])
    rates = {
        name: (len(photos) if name.endswith("alone") else len(batches) * _BATCH) / found.median
        for name, found in times.items()
    }
    milliseconds = {name: f"{1000 * found.median:.1f}" for name, found in tails.items()}
    rows: list[tuple[str, ...]] = [
        ("predictor, batches", f"{rates['predictor']:.0f}", "", "1"),
        (f"server, {_CLIENTS} clients", f"{rates['server']:.0f}", "", f"{throughput:.2f}"),
        ("predictor, one by one", f"{rates['predictor_alone']:.0f}", milliseconds["predictor"], "1"),
        ("server, one client", f"{rates['server_alone']:.0f}", milliseconds["server"], f"{tail:.2f}"),
    ]
    return {
        "server_photos_per_second": rates["server"],
        "server_over_handler": throughput,
        "server_slowest_milliseconds": 1000 * tails["server"].median,
        "slowest_over_handler": tail,
    }, rows


def _p99(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=100)[-1]


@contextmanager
def serving(package: Path, cache: Path) -> Iterator[int]:
    """Runs a server in a process of its own; yields its port when it is ready."""
    command = [sys.executable, "scripts/serve.py", f"package={package}", "port=0", f"cache.dir={cache}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if "http://" not in line:
                raise UserError(f"{' '.join(command)} did not start.")
            port = int(line.split("http://127.0.0.1:")[1].split()[0])
            _until_ready(port)
            yield port
        finally:
            process.terminate()


def _until_ready(port: int) -> None:
    ended = time.monotonic() + _START_SECONDS
    while time.monotonic() < ended:
        try:
            with urlopen(f"http://127.0.0.1:{port}/ping"):
                return
        except OSError:
            time.sleep(0.1)
    raise UserError(f"The server of the benchmark was not ready within {_START_SECONDS:g} seconds.")

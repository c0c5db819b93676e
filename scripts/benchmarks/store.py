"""Case `store`: the same photos again, one photo more, and a whole second run."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import processes
from benchmarks.photos import enlarge
from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from benchmarks.timing import paired, ratio

_PHOTOS = 1500


def run(settings: BenchSettings) -> Section:
    """Times whole commands with ResNet18, and a second training run against importing torch and Lightning alone."""
    with tempfile.TemporaryDirectory() as directory:
        photos = enlarge(settings.photos, Path(directory) / "photos", _PHOTOS)
        place = [f"data.dir={photos}", "model=resnet18", "model.weights=random", f"cache.dir={directory}/cache"]
        cold = processes.run("scripts/prepare_features.py", *place)
        warm = processes.run("scripts/prepare_features.py", *place)
        enlarge(settings.photos, photos, _PHOTOS + 1)
        one_more = processes.run("scripts/prepare_features.py", *place)
        times = paired(
            {
                "imports": lambda: processes.run("-c", "import torch, pytorch_lightning"),
                "run": lambda: processes.run("train.py", *place, "epochs=10", f"hydra.run.dir={directory}/run"),
                "default": lambda: processes.run("train.py", *place, f"hydra.run.dir={directory}/default"),
            },
            max(3, settings.rounds),
        )
    factor, by_default = (ratio(times[name], times["imports"]) for name in ("run", "default"))
    return Section(
        title="store",
        text=f"ResNet18 over {_PHOTOS:,} photos, whole processes. The second run trains ten epochs, evaluates, "
        "packages and reports, without decoding a photo; its measure is the import of torch and pytorch_lightning.",
        columns=("", "seconds", ""),
        rows=(
            ("features, empty store", f"{cold:.1f}", ""),
            ("features, all there", f"{warm:.1f}", ""),
            ("features, one photo new", f"{one_more:.1f}", ""),
            ("import torch, pytorch_lightning", f"{times['imports'].median:.1f}", "1"),
            ("second run of train.py", f"{times['run'].median:.1f}", f"{factor:.2f}"),
            ("the same with default settings", f"{times['default'].median:.1f}", f"{by_default:.2f}"),
        ),
        numbers={
            "cold_seconds": cold,
            "warm_seconds": warm,
            "one_more_seconds": one_more,
            "run_over_imports": factor,
            "default_over_imports": by_default,
        },
    )

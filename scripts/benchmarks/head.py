"""Case `head`: the training of a head through Lightning, with all that a run keeps, against a plain torch loop."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace

from torch import nn

from benchmarks.plain_loop import Size, module, new_head, plain_loop, vectors
from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from benchmarks.timing import paired, ratio, seconds_of
from dogbreeds.machine import compute_threads
from dogbreeds.model.network import Network
from dogbreeds.training.fitting import fit
from dogbreeds.training.trainer import quieten

_SIZE = Size(train=9025, valid=1000, width=2048, classes=10)


def run(settings: BenchSettings) -> Section:
    """Times ten epochs at batch 256 over 9,025 vectors of 2,048 numbers, validation after each epoch included."""
    plain = replace(settings.train, schedule="constant", weight_decay=0.0)
    config = replace(plain, epochs=10, batch_size=256, lr=0.001, patience=10)
    splits = vectors(_SIZE)

    def ours() -> float:
        with tempfile.TemporaryDirectory() as directory:
            data = module(config, splits, _SIZE)
            network = Network(nn.Sequential(), nn.Sequential(), new_head(splits, _SIZE))
            here = replace(config, run_dir=directory)
            return seconds_of(lambda: fit(here, data, network, None))

    quieten()
    logging.getLogger("dogbreeds").setLevel(logging.WARNING)
    loop = plain_loop(config, splits, _SIZE)
    with compute_threads(1):
        ours(), loop()
    times = paired({"ours": ours, "loop": loop}, settings.rounds)
    logging.getLogger("dogbreeds").setLevel(logging.NOTSET)
    factor = ratio(times["ours"], times["loop"])
    return Section(
        title="head",
        text=f"Ten epochs over {_SIZE.train:,} x {_SIZE.width:,} vectors, batch 256, {_SIZE.valid:,} validation "
        "vectors after each epoch. Ours writes history, checkpoints and TensorBoard events as any run does.",
        columns=("", "seconds (median)", "spread", "against the loop"),
        rows=(
            ("plain torch loop", f"{times['loop'].median:.2f}", times["loop"].spread, "1"),
            ("ours, through Lightning", f"{times['ours'].median:.2f}", times["ours"].spread, f"{factor:.2f}"),
        ),
        numbers={"loop_seconds": times["loop"].median, "ours_seconds": times["ours"].median, "ratio": factor},
    )

"""Case `trials`: what a trial of a search costs beyond its arithmetic, and what searches cost beside a single run."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks import processes
from benchmarks.plain_loop import Size, plain_loop, vectors
from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from benchmarks.timing import Times, paired, ratio
from dogbreeds.data.layout import find_photos
from dogbreeds.machine import compute_threads
from dogbreeds.model.backbones import load_backbone

_FEW, _MANY = 8, 32
# What the loop by hand does.
_PLAIN = ["epochs=10", "patience=10", "schedule=constant", "weight_decay=0"]
# Learning rates so near each other that all trials do the same work.
_SAME = ["lr=interval(0.0099, 0.0101)", "batch_size=256"]


def run(settings: BenchSettings) -> Section:
    """Times whole processes over features that exist, and the same arithmetic by hand."""
    found = find_photos(settings.photos)
    splits = {split: len(found.photos(split)) for split in found.splits}
    width = load_backbone(settings.backbone, "random", seed=0).width
    size = Size(splits["train"], splits["valid"], width, len(found.classes))
    config = replace(settings.train, epochs=10, batch_size=256, lr=0.01)
    with tempfile.TemporaryDirectory() as directory:
        place = [
            f"data.dir={settings.photos}",
            f"model={settings.backbone}",
            f"model.weights={settings.weights or 'random'}",
            f"cache.dir={directory}/cache",
        ]
        processes.run("scripts/prepare_features.py", *place)
        numbers = iter(range(1000))

        def search(*arguments: str) -> float:
            where = f"hydra.sweep.dir={Path(directory) / str(next(numbers))}"
            return processes.run("train.py", "-m", *arguments, *_PLAIN, *place, where)

        def many(trials: int) -> float:
            return search("hpo=random", f"hpo.trials={trials}", *_SAME)

        contestants = {
            "run": lambda: processes.run("train.py", *_PLAIN, *place, f"hydra.run.dir={directory}/{next(numbers)}"),
            "four": lambda: search("hpo=bayes"),
            "few": lambda: many(_FEW),
            "many": lambda: many(_MANY),
        }
        # The first of each writes compiled Python and solves the exact reference.
        contestants["run"]()
        times = paired(contestants, settings.rounds)
    loop = plain_loop(config, vectors(size), size)
    with compute_threads(1):
        loop()
        loops = Times(tuple(loop() for _ in range(settings.rounds)))
    trials = Times(
        tuple(
            (long - short) / (_MANY - _FEW)
            for long, short in zip(times["many"].seconds, times["few"].seconds, strict=True)
        )
    )
    beyond = Times(tuple(long - one for long, one in zip(times["many"].seconds, times["run"].seconds, strict=True)))
    four = times["four"]
    over_run, over_loop = ratio(four, times["run"]), ratio(trials, loops)
    return Section(
        title="trials",
        text=f"{settings.backbone}, {sum(splits.values()):,} photos whose features exist, {settings.rounds} rounds, "
        f"whole processes. A trial is the difference between {_MANY} and {_FEW} of ten epochs at batch 256; the loop "
        f"does the same arithmetic on {size.train} x {size.width} vectors and keeps nothing.",
        columns=("", "seconds (median)", "spread", "ratio"),
        rows=(
            ("a run", f"{times['run'].median:.1f}", times["run"].spread, "1"),
            ("a search of 4 trials, hpo=bayes", f"{times['four'].median:.1f}", times["four"].spread, f"{over_run:.2f}"),
            (f"{_MANY} trials, beyond a run", f"{beyond.median:.1f}", beyond.spread, ""),
            ("plain torch loop", f"{loops.median:.3f}", loops.spread, "1"),
            ("a trial", f"{trials.median:.3f}", trials.spread, f"{over_loop:.2f}"),
        ),
        numbers={
            "search_over_run": over_run,
            "seconds_beyond_a_run": beyond.median,
            "trial_seconds": trials.median,
            "loop_seconds": loops.median,
            "trial_over_loop": over_loop,
        },
    )

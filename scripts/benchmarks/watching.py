"""Case `watching`: what recorder, rules, sampler, timeline and the report of a running run cost a run of a minute."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from benchmarks.plain_loop import Size, module, new_head, vectors
from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from benchmarks.timing import Times, paired, ratio, seconds_of
from dogbreeds.config import save
from dogbreeds.debug.record import Facts
from dogbreeds.model.network import Network
from dogbreeds.run_directory import RUN_CONFIG
from dogbreeds.schema import TrainConfig
from dogbreeds.training.fitting import fit
from dogbreeds.training.trainer import quieten
from dogbreeds.training.watching import Debugger

_SIZE = Size(train=9025, valid=3929, width=2048, classes=133)
_SECONDS = 65.0
_PILOT_EPOCHS = 10


def run(settings: BenchSettings) -> Section:
    """Times fits of at least a minute, alone, with the recorder and its rules, and with everything."""
    quieten()
    logging.getLogger("dogbreeds").setLevel(logging.ERROR)
    splits = vectors(_SIZE)
    base = replace(settings.train, batch_size=256, lr=0.001, patience=1_000_000)
    off = replace(base.profiler, system_seconds=None, steps=False)
    nothing = replace(base, debugger=replace(base.debugger, record=False), profiler=off)
    spent: dict[str, list[float]] = {}

    def fitted(config: TrainConfig) -> None:
        with tempfile.TemporaryDirectory() as directory:
            here = replace(config, run_dir=directory)
            save(here, Path(directory) / RUN_CONFIG)
            network = Network(nn.Sequential(), nn.Sequential(), new_head(splits, _SIZE))
            with Debugger(here, time.time(), first=True) as debugger:
                debugger.set_facts(Facts({str(number): 1 for number in range(_SIZE.classes)}, epochs=here.epochs))
                fit(here, module(here, splits, _SIZE), network, None, debugger.callbacks())

    pilot = seconds_of(lambda: fitted(replace(nothing, epochs=_PILOT_EPOCHS)))
    epochs = math.ceil(_SECONDS / (pilot / _PILOT_EPOCHS))

    def contestant(name: str, config: TrainConfig) -> Callable[[], float]:
        def timed() -> float:
            processor = time.process_time()
            seconds = seconds_of(lambda: fitted(replace(config, epochs=epochs)))
            spent.setdefault(name, []).append(time.process_time() - processor)
            return seconds

        return timed

    configs = {"alone": nothing, "recorded": replace(base, profiler=off), "watched": base}
    times = paired({name: contestant(name, config) for name, config in configs.items()}, settings.rounds)
    logging.getLogger("dogbreeds").setLevel(logging.NOTSET)
    processor = {name: Times(tuple(seconds)) for name, seconds in spent.items()}
    over = {name: (ratio(times[name], times["alone"]), ratio(processor[name], processor["alone"])) for name in configs}
    titles = {"alone": "a fit alone", "recorded": "with recorder and rules", "watched": "with everything"}
    return Section(
        title="watching",
        text=f"{epochs} epochs over {_SIZE.train:,} x {_SIZE.width:,} vectors of {_SIZE.classes} classes, batch 256, "
        f"{settings.rounds} rounds in turns, at the schedules of conf/debugger/default.yaml and "
        "conf/profiler/default.yaml. Everything is recorder, rules, sampler, step timeline and the report of the "
        "running run. Processor time is that of the whole process, and little disturbed by others.",
        columns=("", "seconds (median)", "spread", "ratio", "processor seconds (median)", "ratio"),
        rows=tuple(
            (
                title,
                f"{times[name].median:.1f}",
                times[name].spread,
                f"{over[name][0]:.3f}",
                f"{processor[name].median:.1f}",
                f"{over[name][1]:.3f}",
            )
            for name, title in titles.items()
        ),
        numbers={
            "seconds_alone": times["alone"].median,
            "recorder_over_alone": over["recorded"][0],
            "watching_over_alone": over["watched"][0],
            "recorder_over_alone_processor": over["recorded"][1],
            "watching_over_alone_processor": over["watched"][1],
        },
    )

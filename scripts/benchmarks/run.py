"""Runs the cases of the benchmark and writes docs/benchmarks.md."""

from __future__ import annotations

import importlib
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig

from benchmarks.settings import BenchSettings
from benchmarks.table import write
from benchmarks.timing import noise
from dogbreeds.composing import initialized
from dogbreeds.config import load
from dogbreeds.errors import ConfigError

CASES = (
    *("trunk", "decode", "store", "head", "trials", "search", "watching", "serve", "equivalence"),
    *("accuracy", "known", "scale"),
)


def run(config: DictConfig) -> None:
    """Runs the cases that bench.yaml and the command line name.

    Raises:
        UserError: There is no such case, or no such folder of photos.
    """
    unknown = [case for case in config.cases if case not in CASES]
    if unknown:
        raise ConfigError(f"cases={list(config.cases)}: must be some of {', '.join(CASES)}.")
    if config.rounds < 1 or config.count < 1 or config.seeds < 1:
        given = f"rounds={config.rounds} count={config.count} seeds={config.seeds}"
        raise ConfigError(f"{given}: all must be at least 1.")
    with initialized("train"):
        train = load(compose("train", [f"data.dir={config.photos}", "run_dir=outputs"]), [])
    settings = BenchSettings(
        train=train,
        photos=Path(config.photos),
        count=config.count,
        rounds=config.rounds,
        weights=config.weights,
        backbone=config.backbone,
        seeds=config.seeds,
        fine_tune_epochs=config.fine_tune_epochs,
        sizes=config.sizes,
        strangers=config.strangers,
    )
    for case in config.cases:
        repeated = noise()
        print(f"noise {repeated:.2f}: the longer of two runs of the same thing, over the shorter\n", flush=True)
        section = importlib.import_module(f"benchmarks.{case}").run(settings)
        print(section.markdown(), flush=True)
        # Of another kind, and of interest to others, than how fast things are.
        page = Path(config.out).with_name("accuracy.md") if case in ("accuracy", "known") else Path(config.out)
        write([section], page, repeated)

"""Measure speed and equivalence: python scripts/bench.py cases=[trunk,head]."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from dogbreeds.entry import entry_point


@entry_point("bench", directory=Path(__file__).parent / "benchmarks")
def main(cfg: DictConfig) -> None:
    from benchmarks.run import run

    run(cfg)


if __name__ == "__main__":
    main()

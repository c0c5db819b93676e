"""Build the report of a run again, or compare runs: python scripts/report.py run=<run> or runs=<run>,<run>."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from dogbreeds.entry import entry_point
from dogbreeds.errors import ConfigError


@entry_point("report", lists=("runs",))
def main(cfg: DictConfig) -> None:
    if (cfg.run is None) == (cfg.runs is None):
        raise ConfigError("Give a run directory, run=<directory>, or several to compare, runs=<one>,<another>.")
    if cfg.run is not None:
        from dogbreeds.training.watching import report_again

        print(report_again(Path(cfg.run)))
    else:
        from dogbreeds.report.comparison import build_comparison

        runs = [Path(run) for run in cfg.runs]
        if len(runs) < 2:
            raise ConfigError(f"runs={','.join(cfg.runs)}: there must be two or more to compare.")
        print(f"comparison {build_comparison(runs, Path(cfg.out))}")


if __name__ == "__main__":
    main()

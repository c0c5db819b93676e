"""Several training runs in one process: `python -m dogbreeds.bench.trials <trials> <directory> [overrides]`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir

from dogbreeds.config import load
from dogbreeds.entry import register


def main() -> None:
    """Trains with learning rates from 0.001 to 0.1."""
    trials, directory, overrides = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    register()
    with initialize_config_dir(str(Path("conf").absolute()), version_base="1.3"):
        composed = compose("train", [*overrides, f"run_dir={directory}"])
    config = load(composed, overrides)

    from dogbreeds.training import train

    for number in range(trials):
        rate = 0.001 * 100 ** (number / max(1, trials - 1))
        train(replace(config, lr=rate, run_dir=f"{directory}/{number}"))


if __name__ == "__main__":
    main()

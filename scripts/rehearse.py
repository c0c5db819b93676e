"""Rehearse all commands for a model on SageMaker without an account: python scripts/rehearse.py."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from dogbreeds.entry import entry_point
from dogbreeds.errors import ConfigError


@entry_point("rehearse", lists=("settings",))
def main(cfg: DictConfig) -> None:
    if cfg.action == "clear":
        from dogbreeds.sagemaker.rehearsal import clear

        clear(Path(cfg.rehearsal_dir))
    elif cfg.action == "play":
        from dogbreeds.sagemaker import walkthrough

        sys.exit(not walkthrough.run(list(cfg.settings), Path(cfg.dir)))
    else:
        raise ConfigError(f"action={cfg.action}: must be one of play, clear.")


if __name__ == "__main__":
    main()

"""Show or prune the feature store: python scripts/cache.py action=list."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from dogbreeds.entry import entry_point
from dogbreeds.errors import ConfigError

ACTIONS = ("list", "prune")


@entry_point("cache")
def main(cfg: DictConfig) -> None:
    if cfg.action not in ACTIONS:
        raise ConfigError(f"action={cfg.action}: must be one of {', '.join(ACTIONS)}.")

    if not cfg.days >= 0:
        raise ConfigError(f"days={cfg.days}: must be at least 0.")

    from dogbreeds.features.store.listing import run

    run(cfg.action, Path(cfg.cache.dir), cfg.cache.max_gb, cfg.days)


if __name__ == "__main__":
    main()

"""Compute features ahead of training: python scripts/prepare_features.py data.dir=photos model=resnet50."""

from __future__ import annotations

from omegaconf import DictConfig

from dogbreeds.config import load
from dogbreeds.entry import entry_point


@entry_point("prepare_features")
def main(cfg: DictConfig) -> None:
    config = load(cfg, overrides=[])

    from dogbreeds.training.run import prepare_features

    prepare_features(config)
    print(f"They are in {config.cache.dir}; train.py with the same settings finds them there.")


if __name__ == "__main__":
    main()

"""Train a classifier from folders of photos: python train.py lr=0.01 batch_size=256."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from dogbreeds.config import load
from dogbreeds.entry import BEGAN, entry_point


@entry_point("train")
def main(cfg: DictConfig) -> None:
    config = load(cfg, list(HydraConfig.get().overrides.task))

    from dogbreeds.training.run import train

    print(train(config, BEGAN).summary())


if __name__ == "__main__":
    main()

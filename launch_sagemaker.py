"""Train on Amazon SageMaker: python launch_sagemaker.py; search there: python launch_sagemaker.py -m hpo=bayes."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from dogbreeds.config import launch_settings, load, places
from dogbreeds.entry import entry_point


@entry_point("launch")
def main(cfg: DictConfig) -> None:
    settings = launch_settings(cfg)

    from dogbreeds.sagemaker import commands

    if cfg.stop is not None:
        print(commands.stop(settings, cfg.stop))
    elif cfg.attach is not None:
        print(commands.attach(settings, cfg.attach, places(cfg)))
    else:
        print(commands.train(settings, load(cfg, list(HydraConfig.get().overrides.task))))


if __name__ == "__main__":
    main()

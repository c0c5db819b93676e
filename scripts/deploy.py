"""Serve a model on SageMaker: python scripts/deploy.py model=<run>/model endpoint=<name>."""

from __future__ import annotations

from omegaconf import DictConfig

from dogbreeds.config import check_launch, command_settings
from dogbreeds.entry import entry_point
from dogbreeds.schema import DeployCommandConfig

# Of training jobs, and of what serves.
_INSTEAD = {f"sagemaker.{key}": f"variant.{key}" for key in ("image", "instance", "instances", "volume_gb")}


@entry_point("deploy", instead=_INSTEAD)
def main(cfg: DictConfig) -> None:
    config = command_settings(cfg, DeployCommandConfig)
    check_launch(config.sagemaker, serves=config.action == "deploy")

    from dogbreeds.sagemaker.endpoints import commands as endpoint_commands

    print(endpoint_commands.run(config))


if __name__ == "__main__":
    main()

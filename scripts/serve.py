"""Let a trained model answer over HTTP: python scripts/serve.py model=<run directory> port=8080."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

from dogbreeds.config import command_settings
from dogbreeds.entry import entry_point
from dogbreeds.errors import ConfigError
from dogbreeds.schema import ServeCommandConfig

_PACKAGES = ("starlette", "uvicorn", "prometheus_client")


@entry_point("serve")
def main(cfg: DictConfig) -> None:
    config = command_settings(cfg, ServeCommandConfig)
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(f"This needs {' and '.join(missing)}: pip install 'dogbreeds[serve]', or make install.")

    from dogbreeds.package.finding import find_package

    package = find_package(config.model)

    from dogbreeds.serve.run import serve

    serve(package, config.limits, host=config.host, port=config.port, cache=Path(config.cache.dir))


if __name__ == "__main__":
    main()

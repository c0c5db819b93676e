"""Download a public dog-breed set as breed folders: python scripts/get_data.py dataset=dog_breeds."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from dogbreeds.entry import entry_point


@entry_point("get_data")
def main(cfg: DictConfig) -> None:
    import shlex
    from pathlib import Path
    from typing import Any, cast

    from rich.console import Console

    from dogbreeds.data.download import Connection
    from dogbreeds.data.public import choose_set, get_dataset

    table = cast(dict[str, dict[str, Any]], OmegaConf.to_container(cfg.datasets, resolve=True))
    target = Path(cfg.dir).expanduser()
    connection = Connection(cfg.connect_timeout, cfg.read_timeout, cfg.retries, cfg.backoff)
    chosen = choose_set(cfg.dataset, table)
    summary = get_dataset(chosen, target, connection, cfg.keep_archive, Console())
    print(f"{summary.images} images of {summary.breeds} breeds in {target}")
    print(f"Next: python train.py data.dir={shlex.quote(str(target))}")


if __name__ == "__main__":
    main()

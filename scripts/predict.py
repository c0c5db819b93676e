"""Ask a trained model for breeds: python scripts/predict.py model=<run>/model images=<photo, folder or glob>."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from dogbreeds.entry import entry_point


@entry_point("predict")
def main(cfg: DictConfig) -> None:
    from dogbreeds.serve.batch import find_images, json_lines

    unreadable = 0
    for line, readable in json_lines(cfg.model, find_images(cfg.images), Path(cfg.cache.dir)):
        print(line, flush=True)
        unreadable += not readable
    if unreadable:
        sys.exit(f"{unreadable} files could not be read as images; their lines say why.")


if __name__ == "__main__":
    main()

"""Ask a trained model for breeds: python scripts/predict.py model=<run>/model images=<photo, folder or glob>."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from dogbreeds.entry import entry_point


@entry_point("predict")
def main(cfg: DictConfig) -> None:
    from dogbreeds.serve.answers_file import check_out, write_rows
    from dogbreeds.serve.batch import find_images, rows

    out = check_out(cfg.out)
    paths = find_images(cfg.images)
    unreadable = write_rows(rows(cfg.model, paths, Path(cfg.cache.dir)), out, len(paths))
    if unreadable:
        sys.exit(f"{unreadable} files could not be read as images; their lines say why.")


if __name__ == "__main__":
    main()

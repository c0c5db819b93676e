"""Ask a model, a server or an endpoint for breeds: python scripts/predict.py model=<run>/model images=<photos>."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from dogbreeds.config import command_settings
from dogbreeds.entry import entry_point
from dogbreeds.errors import ConfigError
from dogbreeds.schema import PredictCommandConfig


@entry_point("predict")
def main(cfg: DictConfig) -> None:
    config = command_settings(cfg, PredictCommandConfig)

    from dogbreeds.asking import asked
    from dogbreeds.serve.answers_file import check_out, write_rows
    from dogbreeds.serve.batch import find_images

    out = check_out(config.out)
    if config.images is None:
        raise ConfigError("images=null: name a photo, a folder, or a glob in quotes, images=<photos>.")
    with asked(config) as ask:
        paths = find_images(config.images)
        unanswered = write_rows(ask(paths), out, len(paths))
    if unanswered:
        sys.exit(f"Photos without an answer: {unanswered}. Their lines say why.")


if __name__ == "__main__":
    main()

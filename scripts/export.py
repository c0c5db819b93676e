"""Write a model for other runtimes: python scripts/export.py model=<run>/model format=onnx out=dogs.onnx"""

from __future__ import annotations

from omegaconf import DictConfig

from dogbreeds.config import command_settings
from dogbreeds.entry import entry_point
from dogbreeds.schema import ExportCommandConfig


@entry_point("export")
def main(cfg: DictConfig) -> None:
    config = command_settings(cfg, ExportCommandConfig)

    from dogbreeds.errors import ConfigError
    from dogbreeds.package.examples import DIRECTORY, load_examples
    from dogbreeds.package.export import check_out, export, usage
    from dogbreeds.package.finding import find_package
    from dogbreeds.serve.batch import find_images

    out, package = check_out(config.format, config.out), find_package(config.model)
    if config.images is None:
        photos = [package / DIRECTORY / example.file for example in load_examples(package)]
    else:
        photos = find_images(config.images)
    if not photos:
        raise ConfigError(f"model={package} carries no example photos to compare on: add images=<some photos>.")
    found = export(package, config.format, out, photos)
    print(f"{out} says of {found.photos} photos what the package says, within {found.difference:.1g}. Ask it:\n")
    print(usage(config.format, out))
    print("\nimages is uint8 RGB (N, 3, side, side), resized and cropped as its metadata say.")


if __name__ == "__main__":
    main()

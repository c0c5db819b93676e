"""Write a model for other runtimes: python scripts/export.py model=<run>/model format=onnx out=dogs.onnx"""

from __future__ import annotations

from omegaconf import DictConfig

from dogbreeds.entry import entry_point


@entry_point("export")
def main(cfg: DictConfig) -> None:
    from pathlib import Path

    from dogbreeds.errors import ConfigError
    from dogbreeds.model.export import check_out, export, usage
    from dogbreeds.serve.batch import find_images
    from dogbreeds.serve.examples import DIRECTORY, load_examples

    out, package = check_out(cfg.format, cfg.out), Path(cfg.model)
    if cfg.images is None:
        photos = [package / DIRECTORY / example.file for example in load_examples(package)]
    else:
        photos = find_images(cfg.images)
    if not photos:
        raise ConfigError(f"model={package} carries no example photos to compare on: add images=<some photos>.")
    found = export(package, cfg.format, out, photos)
    print(f"{out} says of {found.photos} photos what the package says, within {found.difference:.1g}. Ask it:\n")
    print(usage(cfg.format, out))
    print("\nimages is uint8 RGB (N, 3, side, side), resized and cropped as its metadata say.")


if __name__ == "__main__":
    main()

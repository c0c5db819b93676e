"""Where photos lie in breed folders; free of heavy imports, so that a wrong folder is refused at once."""

from __future__ import annotations

import re
from pathlib import Path

from dogbreeds.errors import DataError
from dogbreeds.installation import command

SPLITS = ("train", "valid", "test")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_FOLDERS = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}


def find_photos(root: Path) -> dict[str, list[Path]]:
    """Returns the image files per split, or all of them as `all` where there is no folder `train`.

    Raises:
        DataError: There is no such folder, it holds no images, or those of one class only.
    """
    if not root.is_dir():
        raise DataError(
            f"data.dir={root}: no such directory. Point it at a folder of breed folders, download one with\n"
            f"`{command('get_data')} dataset=dog_breeds`, or draw one with `{command('make_sample')}` "
            "and add data=sample."
        )
    present = {split: root / name for split in SPLITS for name in _FOLDERS[split] if (root / name).is_dir()}
    roots = present if "train" in present else {"all": root}
    files = {split: _image_files(directory) for split, directory in roots.items()}
    classes = {path.parent.name for paths in files.values() for path in paths}
    if not classes:
        raise DataError(
            f"data.dir={root} holds no images. Expected train/<class>/*.jpg or <class>/*.jpg, "
            f"with files ending in {', '.join(EXTENSIONS)}."
        )
    if len(classes) == 1:
        raise DataError(
            f"data.dir={root} holds one class only ({classes.pop()}). A classifier needs two or more class folders."
        )
    return files


def _image_files(directory: Path) -> list[Path]:
    return [
        path
        for folder in sorted(directory.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    ]


def display_name(folder: str) -> str:
    """Returns a class folder's name as people read it: `001.German_shepherd` becomes `German shepherd`."""
    return re.sub(r"^\d+\.", "", folder).replace("_", " ")

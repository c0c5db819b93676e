"""Where photos lie in class folders; free of heavy imports, so that a wrong folder is refused at once."""

from __future__ import annotations

import re
from pathlib import Path

from dogbreeds.errors import DataError
from dogbreeds.installation import command

SPLITS = ("train", "valid", "test")
#: The formats that are read, by Pillow's names, and how their files' names end. Pillow knows many more, some of which
#: start other programs or are rarely maintained.
IMAGE_FORMATS = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "WEBP": (".webp",), "BMP": (".bmp",), "GIF": (".gif",)}
EXTENSIONS = tuple(extension for extensions in IMAGE_FORMATS.values() for extension in extensions)
_SPLIT_NAMES = {"train": "train", "test": "test"} | dict.fromkeys(("valid", "val", "validation", "dev"), "valid")


def find_photos(root: Path) -> dict[str, list[Path]]:
    """Returns the image files per split, or all of them as `all` if there is no folder `train`.

    `val`, `validation` and `dev` are other names of `valid`; capitals do not matter.
    """
    if not root.is_dir():
        raise DataError(
            f"data.dir={root}: no such directory. Point it at a folder of class folders, download one with\n"
            f"`{command('get_data')} dataset=dog_breeds`, or draw one with `{command('make_sample')}` "
            "and add data=sample."
        )
    roots = _split_folders(root)
    files = {split: _image_files(folder) for split, folder in roots.items()}
    classes = {path.parent.name for paths in files.values() for path in paths}
    if not classes:
        raise DataError(
            f"data.dir={root} holds no images. Expected train/<class>/*.jpg or <class>/*.jpg, "
            f"with files ending in {', '.join(EXTENSIONS)}."
        )
    if len(classes) == 1:
        raise DataError(f"data.dir={root} holds one class only ({classes.pop()}). A classifier needs two or more.")
    return files


def _split_folders(root: Path) -> dict[str, Path]:
    found: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and (split := _SPLIT_NAMES.get(folder.name.lower())):
            found[split].append(folder)
    if not found["train"]:
        return {"all": root}
    for split, folders in found.items():
        if len(folders) > 1:
            both = " and ".join(f"{folder.name}/" for folder in folders)
            raise DataError(f"data.dir={root} holds {both}, which mean the same split ({split}): keep one of them.")
    return {split: folders[0] for split, folders in found.items() if folders}


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

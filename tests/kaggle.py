"""The layout of Kaggle's dog breeds, made from class folders."""

from __future__ import annotations

import csv
from pathlib import Path

from dogbreeds.data.layout import find_photos


def kaggle(folders: Path, root: Path, *, splits: bool) -> Path:
    """Links all photos to `train/<id>.jpg`, in the order of the folders, and those of test to `test/<id>.jpg` too.

    Returns:
        The table: ids and breeds, and the splits where these are wanted.
    """
    (root / "train").mkdir(parents=True)
    (root / "test").mkdir()
    rows = []
    for split, classes in find_photos(folders).splits.items():
        for breed, photos in sorted(classes.items()):
            for photo in photos:
                name = f"{len(rows):032x}"
                (root / "train" / f"{name}.jpg").symlink_to(photo.resolve())
                if split == "test":
                    (root / "test" / f"{name[::-1]}.jpg").symlink_to(photo.resolve())
                rows.append((name, breed, split))
    with (root / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "breed", "split") if splits else ("id", "breed"))
        writer.writerows(row if splits else row[:2] for row in rows)
    return root / "labels.csv"

"""Where photos lie in class folders, and what else lies there; free of heavy imports, so that errors come at once.

Every regular file is a photo of a class, or left out with a reason. Which is which decide the first bytes of a file;
a file whose name ends like a photo's is taken for one here, and examined when it is read.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dogbreeds.data.kept import labelled
from dogbreeds.data.kinds import may_be_photo
from dogbreeds.data.names import class_name, readable
from dogbreeds.errors import DataError
from dogbreeds.installation import command

SPLITS = ("train", "valid", "test")
#: What the folder of a split, or a split in a table, may be called in small letters.
SPLIT_NAMES = (
    {"train": "train", "training": "train", "test": "test", "testing": "test"}
    | dict.fromkeys(("valid", "val", "validation", "dev"), "valid")
)  # fmt: skip
# Thumbnails of network disks, what macOS and Windows add to archives and disks, and waste paper baskets.
_SYSTEM = (
    *("__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found"),
    *("thumbnails", "thumbs"),
)
_IN_SYSTEM, _HIDDEN, _NO_PHOTO = "in a hidden, system or thumbnail folder", "hidden", "not a photo"
_OUTSIDE = "in no class folder"
#: Lists and notes, which nobody takes for photos.
BESIDE = "no photo, beside the class folders"
_MAX_NAMED = 3


@dataclass(frozen=True)
class Found:
    """What lies in a data directory: by split or `all`, photos of each class; and with reasons, what is left out."""

    splits: dict[str, dict[str, list[Path]]]
    left_out: tuple[tuple[Path, str], ...]

    @property
    def classes(self) -> list[str]:
        return sorted({name for classes in self.splits.values() for name in classes})

    def photos(self, *splits: str) -> list[Path]:
        return [path for split in splits or self.splits for paths in self.splits[split].values() for path in paths]


def files_below(folder: Path, inside: Sequence[str] = (), reason: str = "") -> Iterator[tuple[Path, str]]:
    """Yields what lies in a folder and the folders in it, by name, each with why it is no photo; '' where it may be.

    A link may lead back to `inside`, the real paths of the folders that hold this one. `reason` says why nothing in
    this folder is used.
    """
    real = os.path.realpath(folder)
    if real in inside:
        yield folder, "a link to a folder that holds it"
        return
    try:
        entries = _entries(folder)
    except OSError as error:
        yield folder, f"cannot be opened: {error.strerror}"
        return
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir():
            yield from files_below(path, (*inside, real), reason or _IN_SYSTEM * is_system(entry.name))
        elif not entry.is_file():
            yield path, reason or ("a link that leads nowhere" if not path.exists() else "not a regular file")
        else:
            yield path, reason or (_HIDDEN if entry.name.startswith(".") else "" if may_be_photo(path) else _NO_PHOTO)


def is_system(name: str) -> bool:
    """Whether a folder is hidden, or one of those that systems make for themselves."""
    return name.startswith(".") or name.lower() in _SYSTEM


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def find_photos(root: Path) -> Found:
    """Returns the photos per split and class, and what else lies there.

    `train`, `valid` and `test` are also called `training`, `val`, `validation`, `dev` and `testing`, in any capitals.
    Without a folder `train` all photos are `all`. Those in folders of a class folder are of that class.

    Raises:
        DataError: There is no such folder, or it has not photos of two classes.
    """
    if not root.is_dir():
        raise DataError(
            f"data.dir={root}: no such directory. Point it at a folder of class folders, download one with\n"
            f"`{command('get_data')} dataset=dog_breeds`, or draw one with `{command('make_sample')}` "
            "and add data=sample."
        )
    try:
        roots = _split_folders(root)
        left: list[tuple[Path, str]] = []
        names = [folder.name for folder in roots.values()]
        for entry in [] if "all" in roots else _entries(root):
            if entry.name not in names:
                left += _outside(root, entry, f"in {readable(entry.name)}/, beside {', '.join(names)}")
        splits = {split: _classes(folder, root, left) for split, folder in roots.items()}
    except OSError as error:
        raise DataError(f"data.dir={root} cannot be read: {error.strerror} ({error.filename}).") from error
    found = Found(splits, tuple(left))
    refuse_few_classes(root, found)
    return found


def _split_folders(root: Path) -> dict[str, Path]:
    found: dict[str, list[Path]] = {split: [] for split in SPLITS}
    nested: list[Path] = []
    for entry in _entries(root):
        folder = root / entry.name
        if not entry.is_dir() or is_system(entry.name) or not (names := _folders(folder)):
            continue
        # A bus, a car and a train are classes: the folder of a split has class folders.
        if split := SPLIT_NAMES.get(entry.name.lower()):
            found[split].append(folder)
        elif any(SPLIT_NAMES.get(name.lower()) == "train" for name in names):
            nested.append(folder)
    others = [name for name in _folders(root) if name.lower() not in SPLIT_NAMES]
    if others and not (found["valid"] or found["test"]) and any(map(_holds_photos, found["train"])):
        # Photos of trains, some of them in folders, beside those of buses and cars.
        return {"all": root}
    if not found["train"]:
        if nested or found["valid"] or found["test"]:
            inner = f"{nested[0].name}/ with splits in it: data.dir={nested[0]}?" if nested else ""
            splits = " and ".join(f"{one.name}/" for one in (*found["valid"], *found["test"]))
            raise DataError(
                f"data.dir={readable(root)} holds {readable(inner) or f'{splits}, but no train/.'} "
                "Expected train/<class>/*.jpg or <class>/*.jpg."
            )
        return {"all": root}
    for split, folders in found.items():
        if len(folders) > 1:
            both = " and ".join(f"{folder.name}/" for folder in folders)
            raise DataError(f"data.dir={root} holds {both}, which mean the same split ({split}): keep one of them.")
    return {split: folders[0] for split, folders in found.items() if folders}


def _folders(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in _entries(folder) if entry.is_dir() and not is_system(entry.name)]
    except OSError:
        # It is named where its photos are looked for.
        return []


def _holds_photos(folder: Path) -> bool:
    return any(entry.is_file() and may_be_photo(folder / entry.name) for entry in _entries(folder))


def _outside(folder: Path, entry: os.DirEntry[str], reason: str) -> Iterator[tuple[Path, str]]:
    path = folder / entry.name
    if entry.is_dir():
        yield from files_below(path, reason=_IN_SYSTEM if is_system(entry.name) else reason)
    else:
        photo = entry.is_file() and not entry.name.startswith(".") and may_be_photo(path)
        yield path, _OUTSIDE if photo else BESIDE


def _classes(folder: Path, root: Path, left: list[tuple[Path, str]]) -> dict[str, list[Path]]:
    """Returns the photos of each class folder, and adds all other files to `left`."""
    classes: dict[str, list[Path]] = {}
    above = [os.path.realpath(root), os.path.realpath(folder)]
    for entry in _entries(folder):
        if not entry.is_dir() or is_system(entry.name):
            left += _outside(folder, entry, "")
        elif os.path.realpath(folder / entry.name) in above:
            left.append((folder / entry.name, "a link to a folder that holds it"))
        elif below := list(files_below(folder / entry.name, above)):
            photos = classes.setdefault(class_name(entry.name), [])
            photos += [path for path, reason in below if not reason]
            left += [(path, reason) for path, reason in below if reason]
        else:
            left.append((folder / entry.name, "an empty folder"))
    return classes


def refuse_few_classes(root: Path, found: Found) -> None:
    names = {name for classes in found.splits.values() for name, paths in classes.items() if paths}
    # Photos of Kaggle lie in train/ and test/: these are no breeds.
    splits = {SPLIT_NAMES.get(name.lower()) for name in names}
    unlabelled = not names or ("train" in splits and None not in splits)
    if len(names) > 1 and not unlabelled:
        return
    why = "\n" + "\n".join(grouped(root, found.left_out)) if found.left_out else ""
    if unlabelled:
        said = f"data.dir={readable(root)} holds no photos in class folders"
        if typed := labelled(root, root, root.parent):
            raise DataError(f"{said}, but there is a table of labels: {typed}")
        raise DataError(
            f"{said}. Expected train/<class>/*.jpg or <class>/*.jpg, or the photos of a table, data.labels=<file>.{why}"
        )
    inner = root / names.pop()
    hint = f" Its folders may be the classes: data.dir={readable(inner)}." if len(_folders(inner)) > 1 else ""
    raise DataError(
        f"data.dir={readable(root)} holds one class only ({inner.name}). A classifier needs two or more.{hint}{why}"
    )


def grouped(root: Path, left_out: Iterable[tuple[Path, str]]) -> list[str]:
    """Returns a line for each reason: how many files, and the first of them."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path, reason in left_out:
        groups[reason].append(path)
    lines = []
    for reason, paths in sorted(groups.items(), key=lambda group: -len(group[1])):
        first = ", ".join(readable(path.relative_to(root)) for path in paths[:_MAX_NAMED])
        lines.append(f"    {len(paths):>5} {reason}: {first}{', ...' * (len(paths) > _MAX_NAMED)}")
    return lines

"""Public sets of dog photos: downloaded, checked and laid out as breed folders."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from dogbreeds.data.archives import BadArchiveError, unpack
from dogbreeds.data.download import Connection, DownloadError, download
from dogbreeds.data.layout import find_photos
from dogbreeds.errors import ConfigError, DataError, UserError
from dogbreeds.files import read_json

_MARKER = ".dogbreeds.json"


@dataclass(frozen=True)
class PublicSet:
    """Where the archive of a set is, and how its folders become breed folders; the command's config says more."""

    name: str
    url: str
    archive: str
    folder: str
    rename: str | Mapping[str, str] | None


class Summary(NamedTuple):
    """How many breeds and images a data directory holds."""

    breeds: int
    images: int


def choose_set(name: str, table: Mapping[str, Mapping[str, Any]]) -> PublicSet:
    if name not in table:
        raise ConfigError(f"dataset={name}: must be one of {', '.join(table)}.")
    return PublicSet(name, **table[name])


def get_dataset(
    chosen: PublicSet, target: Path, connection: Connection, keep_archive: bool, console: Console
) -> Summary:
    """Puts a public set in place as a data directory, doing only what is still missing.

    The directory appears when it is complete. The archive is stored beside it.
    """
    archive = target.parent / chosen.archive
    another = f"another address with datasets.{chosen.name}.url=URL"
    try:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            summary = _check_made(chosen, target)
            console.out(f"{chosen.name} is already in {target}: nothing to do.", highlight=False)
            return summary
        archive.parent.mkdir(parents=True, exist_ok=True)
        if not archive.exists():
            console.out(f"Downloading {chosen.url} ...", highlight=False)
            download(chosen.url, archive, connection, console)
        console.out(f"Checking and unpacking {archive} ...", highlight=False)
        summary = _install(chosen, archive, target)
        if not keep_archive:
            archive.unlink()
        return summary
    except DownloadError as error:
        raise UserError(
            f"Cannot download {chosen.url}: {error}.\n"
            f"Run the command again to resume, try {another}, or put the archive at {archive} yourself."
        ) from error
    except BadArchiveError as error:
        archive.unlink()
        raise UserError(f"{error} It was deleted: run the command again, or try {another}.") from error
    except OSError as error:
        problem = f"Cannot write {error.filename or target}: {error.strerror or error}"
        raise UserError(f"{problem}. Run the command again when that is mended, or with dir=FOLDER.") from error


def _check_made(chosen: PublicSet, target: Path) -> Summary:
    """Returns what a complete data directory holds; refuses one that is something else."""
    made = read_json(target / _MARKER)
    if made.get("dataset") != chosen.name:
        problem = f"the dataset {made.get('dataset')}" if made else "something that this command did not make"
    elif (summary := _summary(target)).images < made.get("images", 0):
        problem = f"only {summary.images} of its {made['images']} images"
    else:
        return summary
    raise UserError(f"{target} already holds {problem}. Choose another place with dir=FOLDER, or move it away.")


def _summary(root: Path) -> Summary:
    found = find_photos(root)
    return Summary(breeds=len(found.classes), images=len(found.photos()))


def _install(chosen: PublicSet, archive: Path, target: Path) -> Summary:
    """Unpacks an archive beside the target and renames the result in one step."""
    workspace = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(workspace, ignore_errors=True)
    try:
        unpack(archive, workspace)
        root = workspace / chosen.folder
        for junk in (*root.rglob("._*"), *root.rglob(".DS_Store")):
            junk.unlink()
        if chosen.rename is not None:
            _number_breeds(archive, root, chosen.rename)
        summary = _summary(root)
        (root / _MARKER).write_text(json.dumps({"dataset": chosen.name, "images": summary.images}), "utf-8")
        root.replace(target)
        return summary
    except DataError as error:
        reason = f"not the expected archive: no photos in its folder {chosen.folder!r}"
        raise BadArchiveError(archive, reason) from error
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def _number_breeds(archive: Path, root: Path, rename: str | Mapping[str, str]) -> None:
    """Names breed folders `001.Australian_terrier` and so on, with the same number in every split."""
    folders = [path for path in sorted(root.rglob("*"), reverse=True) if path.is_dir()]
    breeds = {path.name: breed for path in folders if (breed := _breed_name(path.name, rename))}
    if not breeds:
        raise BadArchiveError(archive, f"not the expected archive: no breed folders in its folder {root.name!r}")
    order = sorted(breeds, key=lambda name: (breeds[name].casefold(), name))
    for path in folders:
        if path.name in breeds:
            path.rename(path.with_name(f"{order.index(path.name) + 1:03d}.{breeds[path.name]}"))


def _breed_name(folder: str, rename: str | Mapping[str, str]) -> str | None:
    if not isinstance(rename, str):
        return rename.get(folder)
    match = re.fullmatch(rename, folder)
    return match[1][:1].upper() + match[1][1:] if match else None

"""Check an untrusted zip or tar archive and put one of its folders in place, whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import BadGzipFile
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath

from rich.filesize import decimal

from dogbreeds.errors import UserError

CHUNK_BYTES = 1 << 16
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
JUNK_NAMES = frozenset({"__MACOSX", ".DS_Store"})
MARKER_NAME = ".dogbreeds.json"

_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    BadGzipFile,
    LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,  # what zipfile raises for members that are encrypted or of an unknown compression
)


@dataclass(frozen=True)
class Source:
    """A public set: where its archive is and how its folders become breed folders.

    Attributes:
        name: What the person types after `dataset=`.
        url: An http or https address.
        archive: File name under which the archive is stored beside the data directory.
        folder: The top folder inside the archive that becomes the data directory.
        rename: How breed folders are named, as `number_breeds` takes it; None keeps the archive's names.
    """

    name: str
    url: str
    archive: str
    folder: str
    rename: str | Mapping[str, str] | None


@dataclass(frozen=True)
class Summary:
    """What a data directory holds: its number of breeds (distinct folder names) and of images."""

    breeds: int
    images: int


class BadArchiveError(Exception):
    """An archive that must not be unpacked; the text completes a sentence that starts with its path."""


def find_dataset(source: Source, target: Path) -> Summary | None:
    """Tells whether a set is already in place.

    Returns:
        What the target holds, or None where it does not exist or is an empty folder.

    Raises:
        UserError: The target is something else, or has lost images since it was unpacked.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    advice = "Choose another place with dir=FOLDER, or move it away and run the same command again."
    marker = target / MARKER_NAME
    if not marker.is_file():
        raise UserError(f"{target} already exists and was not made by this command.\n{advice}")
    made = json.loads(marker.read_text(encoding="utf-8"))
    if made["dataset"] != source.name:
        raise UserError(f"{target} already holds the dataset {made['dataset']}.\n{advice}")
    summary = summarize(target)
    if summary.images < made["images"]:
        raise UserError(f"{target} holds only {summary.images} of its {made['images']} images.\n{advice}")
    return summary


def summarize(folder: Path) -> Summary:
    """Counts the breeds and images of a data directory, with or without split folders."""
    images = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]
    return Summary(breeds=len({path.parent.name for path in images}), images=len(images))


def install_archive(source: Source, archive: Path, target: Path) -> Summary:
    """Checks an archive, unpacks it beside its target and renames the result in one step.

    Args:
        source: The set that the archive should hold.
        archive: The file; it is left as it is.
        target: The data directory to make; absent or empty.

    Returns:
        What the data directory holds.

    Raises:
        BadArchiveError: Damaged, unsafe, or not that set; nothing of it is left unpacked.
        UserError: Not enough disk space.
    """
    require_space(target.parent, check_archive(archive, source.folder))
    with _workspace(target) as workspace:
        _unpack(archive, source.folder, workspace)
        root = workspace / source.folder
        if source.rename is not None:
            number_breeds(root, source.rename)
        summary = summarize(root)
        if not summary.images:
            raise BadArchiveError(f"is not the expected archive: no images in its folder {source.folder!r}")
        marker = {"dataset": source.name, "url": source.url, "images": summary.images}
        (root / MARKER_NAME).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
        if target.exists():
            target.rmdir()
        root.rename(target)
    return summary


def require_space(folder: Path, needed: int) -> None:
    """Makes sure that a folder's disk has room, so that nothing stops half-way.

    Args:
        folder: An existing folder on the disk to be written to.
        needed: Bytes about to be written.

    Raises:
        UserError: The disk has fewer free bytes than that.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"Not enough disk space in {folder}: {decimal(needed)} needed, {decimal(free)} free.\n"
            "Free some space and run the same command again, or choose another place with dir=FOLDER."
        )


def check_archive(archive: Path, folder: str) -> int:
    """Reads an archive through before anything of it is written.

    Every byte is read (zip members and gzip streams carry a checksum) and every member's name is looked at,
    because one bad member is reason enough to distrust the whole archive.

    Args:
        archive: A zip or (compressed) tar file.
        folder: The top folder inside the archive that will be unpacked.

    Returns:
        The unpacked size of that folder in bytes.

    Raises:
        BadArchiveError: Damaged, of another kind, without that folder, or with a member that leads outside.
    """
    with damage_as_bad_archive():
        if zipfile.is_zipfile(archive):
            sizes = _check_zip(archive, folder)
        elif tarfile.is_tarfile(archive):
            sizes = _check_tar(archive, folder)
        else:
            raise BadArchiveError("is not a whole zip or tar archive")
    if not sizes:
        raise BadArchiveError(f"is not the expected archive: it has no folder {folder!r} with files in it")
    return sum(sizes)


def number_breeds(root: Path, rename: str | Mapping[str, str]) -> None:
    """Gives breed folders readable, numbered names such as `001.Australian_terrier`.

    A breed gets the same number in every split, counted over the breed names sorted without regard to case.

    Args:
        root: Holds breed folders, or split folders that hold breed folders.
        rename: A map from folder name to breed name, or a regular expression for the whole folder name whose
            first group is the breed name. Folders that it does not cover keep their names.

    Raises:
        BadArchiveError: No folder is covered: these are not the expected data.
    """
    folders = sorted(path for path in (*root.iterdir(), *root.glob("*/*")) if path.is_dir())
    breeds = {path.name: breed for path in folders if (breed := _breed_name(path.name, rename))}
    if not breeds:
        raise BadArchiveError(f"is not the expected archive: no breed folders in its folder {root.name!r}")
    order = sorted(breeds, key=lambda name: (breeds[name].casefold(), name))
    numbered = {name: f"{number:03d}.{breeds[name]}" for number, name in enumerate(order, start=1)}
    for path in folders:
        if path.name in numbered:
            path.rename(path.with_name(numbered[path.name]))


def _breed_name(folder_name: str, rename: str | Mapping[str, str]) -> str | None:
    if not isinstance(rename, str):
        return rename.get(folder_name)
    match = re.fullmatch(rename, folder_name)
    return match[1][:1].upper() + match[1][1:] if match else None


@contextmanager
def _workspace(target: Path) -> Iterator[Path]:
    """A folder beside the target for half-done work; what a killed run left in it goes first."""
    workspace = target.with_name(f".{target.name}.unpacking")
    if workspace.exists():
        shutil.rmtree(workspace)
    workspace.mkdir()
    try:
        yield workspace
    finally:
        shutil.rmtree(workspace)


def _unpack(archive: Path, folder: str, destination: Path) -> None:
    with damage_as_bad_archive():
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zip_file:
                names = [name for name in zip_file.namelist() if _is_wanted(name, folder)]
                zip_file.extractall(destination, members=names)
        else:
            with tarfile.open(archive) as tar_file:
                members = (member for member in tar_file if _is_wanted(member.name, folder))
                tar_file.extractall(destination, members=members, filter="data")


@contextmanager
def damage_as_bad_archive() -> Iterator[None]:
    """Turns what the standard library raises at a damaged archive into a `BadArchiveError`."""
    try:
        yield
    except _DAMAGE as error:
        raise BadArchiveError(f"is damaged or cannot be read ({error})") from error


def _check_zip(archive: Path, folder: str) -> list[int]:
    with zipfile.ZipFile(archive) as zip_file:
        members = zip_file.infolist()
        for member in members:
            _refuse_unsafe_name(member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise BadArchiveError(f"is not safe to unpack: its member {member.filename!r} is a link")
        damaged = zip_file.testzip()
        if damaged is not None:
            raise BadArchiveError(f"is damaged: the checksum of its member {damaged!r} is wrong")
        return [m.file_size for m in members if not m.is_dir() and _is_wanted(m.filename, folder)]


def _check_tar(archive: Path, folder: str) -> list[int]:
    sizes = []
    with tarfile.open(archive) as tar_file:
        for member in tar_file:
            refuse_unsafe_tar_member(member, archive.parent)
            if content := tar_file.extractfile(member) if member.isreg() else None:
                with content:
                    while content.read(CHUNK_BYTES):
                        pass
                if _is_wanted(member.name, folder):
                    sizes.append(member.size)
        # The checksum of a compressed stream comes at its very end, after the last member.
        while tar_file.fileobj is not None and tar_file.fileobj.read(CHUNK_BYTES):
            pass
    return sizes


def refuse_unsafe_tar_member(member: tarfile.TarInfo, destination: Path) -> None:
    """Refuses a member that leads outside the folder that it is unpacked into, or is a symbolic link or a device.

    Raises:
        BadArchiveError: It is one.
    """
    _refuse_unsafe_name(member.name)
    if member.issym():
        raise BadArchiveError(f"is not safe to unpack: its member {member.name!r} is a link")
    try:
        tarfile.data_filter(member, str(destination))
    except tarfile.FilterError as error:
        raise BadArchiveError(f"is not safe to unpack: {error}") from error


def _refuse_unsafe_name(name: str) -> None:
    """Judges a name by the rules of Unix and Windows alike: the archive does not say which it is for."""
    windows = PureWindowsPath(name)
    if windows.anchor or ".." in windows.parts:
        raise BadArchiveError(f"is not safe to unpack: its member {name!r} leads outside the folder")


def _is_wanted(name: str, folder: str) -> bool:
    parts = PurePosixPath(name).parts
    is_junk = any(part in JUNK_NAMES or part.startswith("._") for part in parts)
    return parts[:1] == (folder,) and not is_junk

"""Unpack a zip or tar archive from elsewhere: nothing is written before all of it was found sound and safe."""

import stat
import tarfile
import zipfile
import zlib
from gzip import BadGzipFile
from lzma import LZMAError
from pathlib import Path, PureWindowsPath

from dogbreeds.errors import UserError

# RuntimeError: zipfile found encrypted members or unknown compression.
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, BadGzipFile, LZMAError, zlib.error, EOFError, RuntimeError)


class BadArchiveError(UserError):
    """An archive that must not be unpacked: code of others may have made it."""

    def __init__(self, archive: Path, reason: str) -> None:
        super().__init__(f"{archive} is {reason}.")


def unpack(archive: Path, directory: Path) -> None:
    """Unpacks a zip or (compressed) tar archive of files and folders; files of the same name are replaced.

    Raises:
        BadArchiveError: The archive is damaged, or a member is a link, a device or outside the directory.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                _check_zip(archive, zipped)
                zipped.extractall(directory)
        else:
            with tarfile.open(archive) as tar:
                _check_tar(archive, tar)
            with tarfile.open(archive) as tar:
                directory.mkdir(parents=True, exist_ok=True)
                tar.extractall(directory, filter="data")
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise BadArchiveError(archive, f"damaged or cannot be read ({reason})") from error


def _check_zip(archive: Path, zipped: zipfile.ZipFile) -> None:
    for member in zipped.infolist():
        _check_member(archive, member.filename, is_plain=not stat.S_ISLNK(member.external_attr >> 16))
    if damaged := zipped.testzip():
        raise BadArchiveError(archive, f"damaged: the checksum of {damaged!r} is wrong")


def _check_tar(archive: Path, tar: tarfile.TarFile) -> None:
    for member in tar:
        _check_member(archive, member.name, is_plain=member.isreg() or member.isdir())
    # The checksum of a compressed stream comes at its very end, after the last member.
    while tar.fileobj and tar.fileobj.read(1 << 20):
        pass


def _check_member(archive: Path, name: str, is_plain: bool) -> None:
    """Applies the rules of Unix and Windows alike: the archive does not say which it is for."""
    path = PureWindowsPath(name)
    if path.anchor or ".." in path.parts:
        raise BadArchiveError(archive, f"not safe to unpack: {name!r} leads outside the folder")
    if not is_plain:
        raise BadArchiveError(archive, f"not safe to unpack: {name!r} is neither a file nor a folder")

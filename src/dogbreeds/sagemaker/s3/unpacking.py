"""Unpacks the archives of jobs safely: code of others may have run in them."""

from __future__ import annotations

import tarfile
from pathlib import Path

from dogbreeds.data.archives import CHUNK_BYTES, BadArchiveError, damage_as_bad_archive, refuse_unsafe_tar_member
from dogbreeds.errors import UserError


def unpack(archive: Path, directory: Path) -> None:
    """Unpacks a tar archive of files and folders; a damaged or unsafe one leaves nothing behind.


    Args:
        archive: The file, compressed or not.
        directory: Created if missing; files of the same name are replaced.

    Raises:
        UserError: It is damaged, or has a link, a device, or a member that leads outside the directory.
    """
    try:
        with damage_as_bad_archive():
            _check(archive, directory)
            directory.mkdir(parents=True, exist_ok=True)
            with tarfile.open(archive) as tar:
                tar.extractall(directory, filter="data")
    except BadArchiveError as error:
        raise UserError(f"{archive} {error}.") from error


def _check(archive: Path, directory: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            refuse_unsafe_tar_member(member, directory)
            if not (member.isreg() or member.isdir()):
                raise BadArchiveError(f"is not safe to unpack: its member {member.name!r} is not a file or folder")
        # The checksum of a compressed stream comes at its very end, after the last member.
        while tar.fileobj is not None and tar.fileobj.read(CHUNK_BYTES):
            pass

"""Unpacks the archives of jobs safely: code of others may have run in them."""

from __future__ import annotations

from pathlib import Path

from dogbreeds.data import archives
from dogbreeds.errors import UserError


def unpack(archive: Path, directory: Path) -> None:
    """Unpacks a tar archive of files and folders; a damaged or unsafe one leaves nothing behind.

    Raises:
        UserError: It is damaged, or has a link, a device, or a member that leads outside the directory.
    """
    try:
        archives.unpack(archive, directory)
    except archives.BadArchiveError as error:
        raise UserError(f"{archive} {error}.") from error

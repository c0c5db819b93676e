"""What jobs send back, unpacked with suspicion: code that others wrote may have run in them."""

from __future__ import annotations

from pathlib import Path

from dogbreeds.data import archives
from dogbreeds.errors import UserError


def unpack(archive: Path, directory: Path) -> None:
    """Unpacks an archive of files and folders, after all of it was read: a bad member leaves nothing behind.

    Args:
        archive: The file, compressed or not.
        directory: Where to; made where it is missing. Files of the same name are replaced.

    Raises:
        UserError: It is damaged, or has a link, a device, or a member that leads outside the directory.
    """
    try:
        archives.unpack(archive, directory)
    except archives.BadArchiveError as error:
        raise UserError(f"{archive} {error}.") from error

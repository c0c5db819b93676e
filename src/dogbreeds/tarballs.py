"""Archives that have the same bytes whenever their content is the same."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from dogbreeds.files import replacing


def pack(archive: Path, members: Mapping[str, Path | bytes], level: int) -> None:
    """Writes a .tar.gz, whole or not at all.

    Members are sorted and have no owner and no time. What links lead to is packed in their place.

    Args:
        archive: The file.
        members: The files in it by their relative paths, or their content.
        level: How hard to compress, 0 (not at all) to 9.
    """
    with (
        replacing(archive) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=level, mtime=0) as packed,
        # Two hard links of a file would become a file and a link.
        tarfile.open(fileobj=packed, mode="w", dereference=True) as tar,
    ):
        for name, content in sorted(members.items()):
            if isinstance(content, Path):
                tar.add(content, name, recursive=False, filter=_anonymous)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(_anonymous(member), io.BytesIO(content))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    member.mode = 0o644
    return member

"""Archives from elsewhere are unpacked whole and safely, or not at all."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from dogbreeds.data.archives import BadArchiveError, unpack

FILES = {"dogs/train/001.A/a.jpg": bytes(range(256)) * 400, "dogs/b.jpg": b"a photo of a dog"}


def as_zip(files: dict[str, bytes], link: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        if link:
            member = zipfile.ZipInfo("dogs/evil")
            member.external_attr = 0o120777 << 16
            archive.writestr(member, link)
    return buffer.getvalue()


def as_tar(files: dict[str, bytes], mode: str = "w:gz", link: tuple[bytes, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        if link:
            member = tarfile.TarInfo("dogs/evil")
            member.type, member.linkname = link
            archive.addfile(member)
    return buffer.getvalue()


ZIP, TGZ, TAR = as_zip(FILES), as_tar(FILES), as_tar(FILES, "w")
BAD = {
    "web page": (b"<html>please log in</html>", "cannot be read"),
    "zip checksum": (ZIP.replace(b"a photo", b"a ph0to"), "checksum of 'dogs/b.jpg'"),
    "cut zip": (ZIP[:-30], "cannot be read"),
    "cut tgz": (TGZ[:-20], "damaged"),
    "cut tar": (TAR[:5000], "damaged"),
    "tgz checksum": (TGZ[:-8] + b"\0\0\0\0" + TGZ[-4:], "damaged"),
    "zip parent": (as_zip(FILES | {"dogs/../../evil.jpg": b"!"}), "'dogs/../../evil.jpg' leads outside"),
    "zip absolute": (as_zip(FILES | {"/tmp/evil.jpg": b"!"}), "'/tmp/evil.jpg' leads outside"),
    "zip drive": (as_zip(FILES | {"C:\\evil.jpg": b"!"}), "evil.jpg' leads outside"),
    "zip link": (as_zip(FILES, "/etc"), "'dogs/evil' is neither a file nor a folder"),
    "tar parent": (as_tar(FILES | {"../evil.jpg": b"!"}), "'../evil.jpg' leads outside"),
    "tar absolute": (as_tar(FILES | {"/tmp/evil.jpg": b"!"}), "'/tmp/evil.jpg' leads outside"),
    "tar link": (as_tar(FILES, link=(tarfile.SYMTYPE, "..")), "'dogs/evil' is neither"),
    "tar hard link": (as_tar(FILES, link=(tarfile.LNKTYPE, "../../secret")), "'dogs/evil' is neither"),
    "tar device": (as_tar(FILES, link=(tarfile.CHRTYPE, "")), "'dogs/evil' is neither"),
}


@pytest.mark.parametrize("content", [ZIP, TGZ, TAR], ids=["zip", "tgz", "tar"])
def test_whole_archives(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content)
    unpack(tmp_path / "archive", tmp_path / "there")
    found = {path.relative_to(tmp_path / "there").as_posix(): path for path in (tmp_path / "there").rglob("*.jpg")}
    assert {name: path.read_bytes() for name, path in found.items()} == FILES


@pytest.mark.parametrize(("content", "reason"), BAD.values(), ids=BAD)
def test_nothing_of_a_bad_archive_is_unpacked(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(BadArchiveError, match=reason):
        unpack(tmp_path / "archive", tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]
    assert not Path("/tmp/evil.jpg").exists()

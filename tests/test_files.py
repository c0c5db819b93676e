"""What is said of disks that are full, read-only or gone, and what is left there."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from contextlib import suppress
from pathlib import Path

import pytest

from dogbreeds import entry
from dogbreeds.errors import PlaceError
from dogbreeds.files import Appender, check_place, replacing, write_text, writing

Usage = namedtuple("Usage", "free")


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(PlaceError, match=f"{path}: no space left on device. Make room"), replacing(path) as temporary:
        temporary.write_text("half")
        raise no_space()
    assert (path.read_text(), list(tmp_path.iterdir())) == ("before", [path])
    # Torch and safetensors have errors of their own.
    with pytest.raises(RuntimeError, match="a mistake"), writing(path):
        raise RuntimeError("a mistake")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0))
    with pytest.raises(PlaceError, match="no space left"), writing(path):
        raise RuntimeError("PytorchStreamWriter failed writing file")
    with pytest.raises(PlaceError, match="gone/file: no such file"):
        write_text(tmp_path / "gone" / "file", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_is_full_from_some_line_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Appender(tmp_path / "lines", every=2)
    full = Path("/dev/full").open("w")  # noqa: SIM115
    file._file.close()
    monkeypatch.setattr(file, "_file", full)
    file.add("one")
    with pytest.raises(PlaceError, match="lines: no space left on device"):
        file.add("two")
    with suppress(OSError):
        full.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_is_tried_before_anything_is_computed(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(PlaceError, match="permission denied"):
        check_place(tmp_path / "file", "out=file")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/mnt/run"), "/mnt/run: read-only file system.\n"),
        (no_space(), "A disk: no space left on device. Make room"),
        (FileNotFoundError(errno.ENOENT, "No such file", "mistake"), None),
    ],
)
def test_any_command_ends_with_one_line(error: OSError, said: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    # Mistakes of the program keep their traceback.
    with pytest.raises(SystemExit if said else type(error)) as ended, entry.report_errors(Path("train.yaml"), []):
        raise error
    if said:
        assert isinstance(ended.value, SystemExit) and ended.value.code == 2
        assert capsys.readouterr().err.startswith(said)

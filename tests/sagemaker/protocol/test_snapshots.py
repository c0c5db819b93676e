"""Snapshots outlive the machine, whatever the service had copied of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dogbreeds.sagemaker.protocol.snapshots import Snapshots, saving


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/model").mkdir()
    (tmp_path / "run/model/weights").write_bytes(b"big")
    (tmp_path / "run/x.partial").write_bytes(b"half")
    return tmp_path / "run"


def snapshots(run: Path, directory: Path | None = None) -> Snapshots:
    return Snapshots(run.parent / "kept", directory or run, leave_out=("model",))


def state(run: Path, text: str) -> None:
    (run / "config.yaml").write_text(text)
    (run / "checkpoints/last.ckpt").write_text(text)


def saved(run: Path, *texts: str) -> None:
    one = snapshots(run)
    for text in texts:
        state(run, text)
        one.save()


def restored(run: Path) -> dict[str, str]:
    new = run.parent / "new"
    shutil.rmtree(new, ignore_errors=True)
    assert snapshots(run, new).restore()
    return {path.relative_to(new).as_posix(): path.read_text() for path in new.rglob("*") if path.is_file()}


@pytest.mark.parametrize("texts", [("1",), ("1", "2"), ("1", "2", "3")])
def test_the_newest_state_comes_back(run: Path, texts: tuple[str, ...]) -> None:
    saved(run, *texts)
    assert restored(run) == {"config.yaml": texts[-1], "checkpoints/last.ckpt": texts[-1]}
    assert len(list((run.parent / "kept").iterdir())) <= 2


@pytest.mark.parametrize("damage", ["cut off", "mixed up", "empty", "missing"])
def test_a_damaged_one_gives_way_to_the_one_before(run: Path, damage: str) -> None:
    saved(run, "1", "2", "3")
    newest = max((run.parent / "kept").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    content = newest.read_bytes()
    # Of the file's content, and not of a time or a checksum.
    middle = content.index(b"config.yaml3") + len("config.yaml")
    newest.write_bytes(
        {
            "cut off": content[:-30],
            "mixed up": content[:middle] + b"2" + content[middle + 1 :],
            "empty": b"",
            "missing": b"",
        }[damage]
    )
    if damage == "missing":
        newest.unlink()
    assert restored(run)["config.yaml"] == "2"


def test_what_goes_on_replaces_the_older_one(run: Path) -> None:
    saved(run, "1", "2", "3")
    again = snapshots(run)
    assert again.restore()
    state(run, "4")
    again.save()
    assert restored(run)["config.yaml"] == "4"


def test_there_is_nothing_to_begin_with(run: Path) -> None:
    assert not snapshots(run).restore()
    (run.parent / "kept").mkdir()
    (run.parent / "kept/0.zip.7.partial").write_bytes(b"half")
    assert not snapshots(run).restore()
    assert list((run.parent / "kept").iterdir()) == []


def test_work_that_is_always_sound_is_saved_at_its_end(run: Path) -> None:
    with saving(snapshots(run), 3600.0):
        state(run, "end")
    assert restored(run)["config.yaml"] == "end"
    with saving(None, 1.0):
        pass

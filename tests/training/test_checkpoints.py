"""Checkpoints: whole or not there, and the one before where the last is damaged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dogbreeds.data.splits import Photo
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.training.checkpoints import SameStart, WholeCheckpoints, newest
from dogbreeds.training.datamodule import BreedDataModule


def start(digest: str = "a", weights: str = "b") -> SameStart:
    splits = {"train": (Photo(Path("one.jpg"), 0, digest, "one.jpg"),)}
    data: Any = SimpleNamespace(
        folders=SimpleNamespace(classes=("dog",), splits=splits),
        features=SimpleNamespace(weights=weights),
        calibration=None,
    )
    return SameStart(cast(BreedDataModule, data))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "checkpoints"
    last, before = directory / "last.ckpt", directory / "previous.ckpt"
    assert newest(tmp_path, start()) is None
    for epoch in (1, 2):
        known = {start().state_key: start().state_dict()}
        WholeCheckpoints().save_checkpoint({"epoch": epoch, "callbacks": known}, last)
    assert newest(tmp_path, start()) == last
    for other, said in ((start(digest="c"), "data.dir: what is there"), (start(weights="c"), "model.weights=<place>")):
        with pytest.raises(ConfigError, match=said):
            newest(tmp_path, other)
    for cut in (0, 10, len(last.read_bytes()) // 2, len(last.read_bytes()) - 5):
        last.write_bytes(last.read_bytes()[:cut] or b"")
        assert newest(tmp_path, start()) == before
        last.write_bytes(before.read_bytes())
    last.write_text("no checkpoint")
    assert newest(tmp_path, start()) == before and "last.ckpt is damaged" in caplog.text
    before.write_text("")
    with pytest.raises(UserError, match=f"type rm {last} {before} and resume again"):
        newest(tmp_path, start())
    last.unlink()
    WholeCheckpoints().save_checkpoint({"callbacks": {}}, last)
    # Of an older version.
    assert newest(tmp_path, start()) == last

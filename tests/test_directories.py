"""Directories of runs: one each, whoever else is there, and nothing lost where one is taken already."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from dogbreeds.directories import check_unused, claimed, new_run, run_directory, run_of
from dogbreeds.errors import ConfigError, UserError


def test_each_of_many_in_the_same_second_gets_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(claimed, [tmp_path / "day" / "12-00-00"] * 20))
    assert sorted(path.name for path in found) == sorted(["12-00-00", *(f"12-00-00-{n}" for n in range(2, 21))])


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("metrics.json", "holds a finished run"),
        ("checkpoints/last.ckpt", "Continue it with python train.py resume="),
        ("search.yaml", "Resume it with python train.py -m resume="),
        ("config.yaml", ""),
        ("notes.txt", ""),
    ],
)
def test_a_directory_with_results_is_left_as_it_is(file: str, said: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("mine")
    (tmp_path / "history.csv").write_text("of a run")
    if said:
        with pytest.raises(ConfigError, match=said), new_run(tmp_path):
            pass
    else:
        with new_run(tmp_path):
            # What was added to before the first epoch.
            assert not (tmp_path / "history.csv").exists()
    assert (tmp_path / file).read_text() == "mine"
    check_unused(tmp_path / "elsewhere")


def test_two_processes_do_not_write_the_same_run(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(UserError, match="another process"), new_run(tmp_path):
        pass


def test_hydra_is_told_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = str(tmp_path / "day" / "time")
    (tmp_path / "config.yaml").touch()
    assert [run_directory(None, place), run_directory(None, place)] == [place, f"{place}-2"]
    assert run_directory(str(tmp_path), place) == str(tmp_path)
    assert run_directory(str(tmp_path / "checkpoints/last.ckpt"), place) == str(tmp_path)
    assert run_directory("nowhere", place) == "."
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run_directory(None, place) == place
    assert run_of("runs/a.ckpt") == Path("runs/a.ckpt")

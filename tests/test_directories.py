"""Directories of runs: one each, whoever else is there, and nothing lost where one is taken already."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from dogbreeds.console import LogFile
from dogbreeds.directories import claimed, new_run, refuse_search, run_directory, run_of
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.run_directory import TUNING_JOB
from tests.conftest import composed


def test_each_of_many_in_the_same_second_gets_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(claimed, [tmp_path / "day" / "12-00-00"] * 20))
    assert sorted(path.name for path in found) == sorted(["12-00-00", *(f"12-00-00-{n}" for n in range(2, 21))])


@pytest.mark.parametrize("name", ["audit", "prepare_features"])
def test_a_command_that_writes_no_run_makes_no_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["data=sample", f"seed={len(name)}"]
    assert composed(name, typed, with_hydra=True).hydra.run.dir == "."
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("file", "said"), [("metrics.json", ""), ("checkpoints/last.ckpt", "Continue it with ")])
def test_a_run_makes_way_for_the_next_one(
    file: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "run"
    for number in range(2):
        (place / file).parent.mkdir(exist_ok=True, parents=True)
        (place / file).write_text(f"{number}")
        (place / "config.yaml").touch()
        with caplog.at_level("INFO"), new_run(place):
            assert {path.name for path in place.iterdir()} == {".lock"}
    before = sorted(path for path in tmp_path.iterdir() if path != place)
    assert [path.name for path in before] == ["run-before", "run-before-2"]
    assert [(path / file).read_text() for path in before] == ["0", "1"]
    assert f"The run that was in {place} is in {before[0]} now." in caplog.text
    assert said in caplog.text


def test_each_run_has_its_own_log(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    (place / "metrics.json").touch()
    (place / "config.yaml").touch()
    handler, root = LogFile(place / "train.log", delay=True), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    try:
        root.setLevel("INFO")
        root.info("the first run")
        with new_run(place):
            root.info("the second run")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
    assert (tmp_path / "run-before" / "train.log").read_text() == "the first run\n"
    assert (place / "train.log").read_text().endswith("the second run\n")


def test_files_beside_which_no_run_lies_stay(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("mine")
    with new_run(tmp_path):
        assert (tmp_path / "history.csv").read_text() == "mine"


def test_what_is_no_part_of_a_run_does_not_move(tmp_path: Path) -> None:
    for name in ("config.yaml", "metrics.json", "photos.txt"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=r"photos\.txt: choose another hydra\.run\.dir"), new_run(tmp_path):
        pass
    assert (tmp_path / "metrics.json").read_text() == "mine"


def test_a_search_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"Resume it with python train\.py -m resume="), new_run(tmp_path):
        pass
    refuse_search(tmp_path / "elsewhere")


def test_a_tuning_job_of_which_nothing_else_was_written_is_a_search(tmp_path: Path) -> None:
    (tmp_path / TUNING_JOB).write_text("{}")
    with pytest.raises(ConfigError, match=r"launch_sagemaker\.py -m resume=.*or choose another directory"):
        refuse_search(tmp_path)


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

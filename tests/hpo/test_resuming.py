"""Searches whose photos a file names or leaves out: all trials, and all who take them up later, have the same ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dogbreeds.config import load, load_saved
from dogbreeds.errors import ConfigError
from dogbreeds.hpo.leaderboard import best_overrides
from dogbreeds.hpo.local import search
from dogbreeds.hpo.resuming import resumed
from dogbreeds.schema import TrainConfig
from dogbreeds.training.run import train
from tests.hpo.conftest import MakePlan, composed, list_of

pytestmark = pytest.mark.slow


def table_of(sample: Path, file: Path) -> Path:
    photos = sorted(path.relative_to(sample) for path in sample.rglob("*.jpg"))
    file.write_text("path,class,set\n" + "".join(f"{path},{path.parts[1]},{path.parts[0]}\n" for path in photos))
    return file


def again(trial: Path) -> TrainConfig:
    return load(OmegaConf.create({"resume": str(trial)}), [f"resume={trial}"])


def excluded(trial: Path) -> int:
    return int(json.loads((trial / "metrics.json").read_text())["excluded"])


def test_a_search_keeps_the_list_that_it_was_started_with(plan: MakePlan, sample: Path, tmp_path: Path) -> None:
    file, directory = list_of(sample, tmp_path / "it's wrong.txt", 2), tmp_path / "search"
    content, labels = file.read_bytes(), table_of(sample, tmp_path / "labels.csv")
    search(plan("lr=0.1,0.01", f'data.exclude="{file}"', f"data.labels={labels}"), directory)
    assert (directory / "excluded.csv").read_bytes() == content
    assert load_saved(directory / "0" / "config.yaml").data.labels == str(directory / "labels.csv")
    assert load_saved(directory / "0" / "config.yaml").data.exclude == str(directory / "excluded.csv")
    assert [excluded(directory / number) for number in "01"] == [2, 2]

    # The user goes on with the list, and moves the search.
    list_of(sample, file, 5)
    labels.unlink()
    moved = Path(shutil.move(directory, tmp_path / "moved"))
    (best,) = moved.glob("*/report.html")
    best.unlink()
    search(resumed(moved, [f"resume={moved}"], composed, None), moved)
    assert best.is_file()
    assert (moved / "excluded.csv").read_bytes() == content
    config = composed(best_overrides(moved))
    assert config.data.exclude == str(moved / "excluded.csv")
    assert config.data.labels == str(moved / "labels.csv")
    assert train(again(moved / "0")).metrics["excluded"] == 2

    # Nor is it needed any more.
    file.unlink()
    assert again(moved / "1").data == resumed(moved, [], composed, None).first(moved).data


def test_a_missing_copy_names_the_file_that_was_typed(plan: MakePlan, sample: Path, tmp_path: Path) -> None:
    file, directory = list_of(sample, tmp_path / "wrong.txt", 1), tmp_path / "search"
    search(plan("lr=0.1,0.01", f"data.exclude={file}"), directory)
    (directory / "excluded.csv").unlink()
    said = rf"{directory}/excluded.csv is missing, the copy of data.exclude={file}: copy that file there again."
    with pytest.raises(ConfigError, match=said):
        resumed(directory, [], composed, None)
    with pytest.raises(ConfigError, match=said):
        again(directory / "0")

"""The leaderboard, its files, and what a person sees of it."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import pytest

from dogbreeds import arguments
from dogbreeds.errors import ConfigError
from dogbreeds.hpo.answers import comparing
from dogbreeds.hpo.leaderboard import FAILED, FINISHED, NAN, PRUNED, Entry, Leaderboard, best_overrides, save_best
from dogbreeds.hpo.local import trial_line
from dogbreeds.hpo.settings import Objective
from dogbreeds.overrides import override

LOSS, ACCURACY = Objective("val/loss"), Objective("val/accuracy")
ENTRIES = [
    Entry(0, FINISHED, {"lr": 0.01}, 0.5, {"val/loss": 0.5, "val/accuracy": 0.7}, 10, 1.0),
    Entry(1, FAILED, {"lr": 0.1}, message='no, "disk"'),
    Entry(2, PRUNED, {"lr": 0.02}, 0.1, epochs=1),
    Entry(3, FINISHED, {"lr": 0.003}, 0.4, {"val/loss": 0.4, "val/accuracy": 0.6}, 10, 1.0),
    Entry(4, NAN, {"lr": 1e30}),
    Entry(5, FINISHED, {"lr": 0.004}, 0.4, {"val/loss": 0.4, "val/accuracy": 0.6}, 10, 1.0),
]


def test_best_first_then_those_without_a_result() -> None:
    assert [entry.number for entry in Leaderboard.of(LOSS, ENTRIES).entries] == [3, 5, 0, 1, 2, 4]
    assert [entry.number for entry in Leaderboard.of(ACCURACY, ENTRIES).entries] == [0, 3, 5, 1, 2, 4]
    assert Leaderboard.of(LOSS, ENTRIES).summary() == "3 finished, 1 failed, 1 pruned, 1 nan"
    assert Leaderboard.of(LOSS, ENTRIES[1:3]).best is None


def test_the_file_has_all_of_it(tmp_path: Path) -> None:
    Leaderboard.of(LOSS, ENTRIES).save(tmp_path / "leaderboard.csv")
    with (tmp_path / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "", "", ""]
    assert rows[0] == {
        "rank": "1",
        "trial": "3",
        "state": FINISHED,
        "val/loss": "0.4",
        "lr": "0.003",
        "val/accuracy": "0.6",
        "against_best": "best",
        "p_value": "",
        "epochs": "10",
        "seconds": "1.0",
        "message": "",
    }
    assert rows[3]["message"] == 'no, "disk"'
    assert not list(tmp_path.glob("*.partial"))


def test_trials_are_compared_with_the_best_photo_by_photo(tmp_path: Path) -> None:
    def answered(trial: int, right: int, photos: int = 20) -> None:
        (tmp_path / str(trial)).mkdir()
        header = "split,path,breed,answer,probability,breed_probability,second,second_probability,reference"
        rows = [f"valid,{n}.jpg,a,{'a' if n < right else 'b'},0.9,0.9,b,0.1,a" for n in range(photos)]
        (tmp_path / str(trial) / "predictions.csv").write_text("\n".join([header, "test,t.jpg,a,b,1,0,a,0,a", *rows]))

    for trial, right in ((3, 12), (5, 10), (0, 4)):
        answered(trial, right)
    board = Leaderboard.of(LOSS, ENTRIES, tmp_path, compare=comparing(tmp_path, LOSS))
    assert [board.against_best(entry) for entry in board.entries] == ["best", "same", "worse", "", "", ""]
    assert board.standing == "not clearly worse on the 20 validation photos: 1 of 2 others"
    assert board.standing in board.outcome
    board.save(tmp_path / "leaderboard.csv")
    with (tmp_path / "leaderboard.csv").open() as file:
        assert [row["p_value"] for row in csv.DictReader(file)] == ["", "0.5", "0.007812", "", "", ""]
    # Other photos, or none.
    answered(1, 12, photos=21)
    entries = [*ENTRIES[3:4], Entry(1, FINISHED, {}, 0.5), Entry(9, FINISHED, {}, 0.6)]
    board = Leaderboard.of(LOSS, entries, tmp_path, compare=comparing(tmp_path, LOSS))
    assert [board.against_best(entry) for entry in board.entries] == ["best", "", ""]
    assert board.standing == "" and Leaderboard.of(LOSS, ENTRIES).standing == ""


def test_best_values_come_back_as_overrides(tmp_path: Path) -> None:
    overrides = ["model=vgg16", "data.dir='a folder'", "lr=1e-05", "model.hidden=[512,128]"]
    save_best(tmp_path / "best.yaml", ENTRIES[3], LOSS, overrides)
    assert best_overrides(tmp_path) == best_overrides(tmp_path / "best.yaml") == overrides


@pytest.mark.parametrize(
    "content",
    [
        "",
        "- a list",
        "trial: 1",
        "overrides: [lr=1]",
        "{trial: 1, overrides: lr=1}",
        "{trial: 1, overrides: [1]}",
        "{trial: 1, overrides: ['hydra/launcher=x']}",
        "{trial: 1, overrides: ['--help']}",
        "a: b: c",
        "[W: no yaml",
    ],
)
def test_other_files_are_no_best_values(content: str, tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"best_of=|damaged"):
        best_overrides(tmp_path)


def test_best_values_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"best_of=.*: there is no best\.yaml"):
        best_overrides(tmp_path)
    with pytest.raises(ConfigError, match=r"best_of=nowhere: there is no best\.yaml"):
        best_overrides(Path("nowhere"))


def test_what_is_typed_beats_the_best_values(tmp_path: Path) -> None:
    save_best(tmp_path / "best.yaml", ENTRIES[3], LOSS, ["model=vgg16", "lr=0.003", "model.head=mlp"])
    place = f"best_of={tmp_path}"
    assert arguments.arranged([place, "++lr=1", "-m"]) == ["model=vgg16", "model.head=mlp", place, "lr=1", "-m"]
    assert arguments.arranged(["lr=1"]) == ["lr=1"]
    with pytest.raises(ConfigError, match="leave one out"):
        arguments.arranged([place, "resume=outputs"])


def test_commands_can_be_pasted(tmp_path: Path) -> None:
    odd = tmp_path / "it's a=b, c"
    odd.mkdir()
    save_best(odd / "best.yaml", ENTRIES[3], LOSS, ["lr=0.003"])
    (typed,) = shlex.split(Leaderboard.of(LOSS, ENTRIES, odd).outcome.split("train.py ")[1].split("\n")[0])
    assert arguments.arranged([typed]) == ["lr=0.003", typed]
    assert override("resume", Path("outputs/2026-11-21/14-03-59")) == "resume=outputs/2026-11-21/14-03-59"
    assert arguments.arranged(["best_of=null"]) == ["best_of=null"]


def test_there_is_a_line_for_each_trial() -> None:
    ended = [ENTRIES[:count] for count in (2, 3, 4)]
    assert [trial_line(some[-1], Leaderboard.of(LOSS, some), len(some), 12) for some in ended] == [
        ' 2/12  trial 1  lr=0.1  failed  no, "disk"',
        " 3/12  trial 2  lr=0.02  pruned  best 0.5 of trial 0",
        " 4/12  trial 3  lr=0.003  val/loss 0.4  best 0.4 of trial 3",
    ]


def test_the_best_values_of_an_older_search_had_another_recipe(tmp_path: Path) -> None:
    save_best(tmp_path / "best.yaml", ENTRIES[3], LOSS, ["lr=0.003", "epochs=5"])
    older = (tmp_path / "best.yaml").read_text().replace("format: 2\n", "")
    (tmp_path / "best.yaml").write_text(older)
    with pytest.raises(ConfigError, match="not of this version"):
        best_overrides(tmp_path)

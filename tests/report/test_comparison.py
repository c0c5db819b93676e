"""The page that holds runs against each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dogbreeds.errors import UserError
from dogbreeds.overrides import flat
from dogbreeds.report.comparison import (
    breeds,
    build_comparison,
    compared,
    differences,
    metrics,
    resources,
    rules,
    settings,
    short_names,
    verdict,
)
from dogbreeds.report.page import plotly_script
from dogbreeds.report.run import read_run
from tests.report.synthetic import Drawn


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    first, second = Drawn(tmp_path / "first"), Drawn(tmp_path / "second", seed=1)
    first.everything()
    second.everything()
    answered(first, 0)
    answered(second, 10)
    first.metrics(**{"test/accuracy": 0.8, "test/loss": 0.5, "test/per_class_accuracy": [1.0, 0.5, 0.5]})
    second.metrics(**{"test/accuracy": 0.9, "test/loss": 0.7, "test/per_class_accuracy": [0.9, 0.5, 1.0]})
    second.config(lr=0.1)
    return [first.directory, second.directory]


def answered(run: Drawn, more: int, count: int = 21) -> None:
    """Test photos of which the first four and so many after them are classified correctly."""
    one, other = run.folders[:2]
    answers = [one if number < 4 + more else other for number in range(count)]
    rows = [f"test,{number}.jpg,{one},{answer},0.9,0.9,{other},0.1,{one}" for number, answer in enumerate(answers)]
    header = "split,path,breed,answer,probability,breed_probability,second,second_probability,reference"
    (run.directory / "predictions.csv").write_text("\n".join([header, *rows]))


def test_runs_are_compared_photo_by_photo(tmp_path: Path) -> None:
    drawn = [Drawn(tmp_path / name) for name in ("first", "second", "third", "other")]
    for run, (more, photos) in zip(drawn, [(0, 21), (10, 21), (3, 21), (3, 20)], strict=True):
        run.config()
        run.metrics(**{"test/accuracy": (4 + more) / photos})
        answered(run, more, photos)
    first, second, third, other = (read_run(run.directory) for run in drawn)
    assert compared(second, first).how == "10 : 0, p = 0.002"
    found = compared(third, first)
    assert found.interval[0] < 0 and found.how == "3 : 0, p = 0.25; about 32 more test photos would settle it"
    assert verdict([first, third], ["first", "third"]).startswith("third is not clearly better than first: 33.3%")
    assert verdict([first, second], ["first", "second"]).startswith("second is best: 66.7%")
    # Not the same photos: a much larger difference would be needed.
    assert compared(second, other).how == "other photos"
    assert compared(second, other).interval[0] < compared(second, third).interval[0]
    lines = differences([first, second, third])
    assert lines[0].cells[1] == lines[1].cells[1] == "-"
    assert lines[1].cells[0] == "0 : 10, p = 0.002"


def test_runs_stand_side_by_side(pair: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "compare.html"
    assert build_comparison(pair, target) == target
    text = target.read_text().replace(plotly_script(), "")
    assert "second is best: 90.0% of the test photos classified correctly, " in text
    found = re.findall(r'<section id="([a-z]+)"', text)
    assert found == ["verdict", "metrics", "settings", "breeds", "rules", "time"]
    assert not re.search(r"https?:|@import|url\(", text)


def test_the_best_of_each_score_is_marked(pair: list[Path]) -> None:
    found = {line.name: line for line in metrics([read_run(path) for path in pair])}
    assert found["Test accuracy"].cells == ("80.0% (59.0 to 91.8)", "90.0% (70.5 to 97.1)")
    assert found["Test accuracy"].best == {1}
    assert found["Test loss"].best == {0}
    assert found["Test macro F1"].best == frozenset()


def test_breeds_that_differ_most_come_first(pair: list[Path], tmp_path: Path) -> None:
    runs = [read_run(path) for path in pair]
    found = breeds(runs)
    assert [(line.name, line.cells, line.best) for line in found] == [
        ("Breed 3 spaniel", ("50.0%", "100.0%"), {1}),
        ("Breed 1 terrier", ("100.0%", "90.0%"), {0}),
    ]
    started = Drawn(tmp_path / "started").config()
    assert breeds([*runs, read_run(started)])[0].cells == ("50.0%", "100.0%", "-")
    other = Drawn(tmp_path / "other", classes=4).everything()
    assert breeds([*runs, read_run(other)]) == []


def test_only_settings_that_differ_are_shown(pair: list[Path]) -> None:
    (line,) = settings([read_run(path) for path in pair])
    assert (line.name, line.cells) == ("lr", ("0.01", "0.1"))
    assert flat({"a": {"b": 1}, "c": [2]}) == {"a.b": 1, "c": [2]}


def test_rules_and_the_machine_are_compared(pair: list[Path]) -> None:
    runs = [read_run(path) for path in pair]
    overfit = next(line for line in rules(runs) if line.name == "Overfit")
    assert overfit.cells == ("issues found (2 times)",) * 2
    # What no run has an issue with says nothing about their difference.
    assert all(any(cell.startswith(("issues", "error")) for cell in line.cells) for line in rules(runs))
    names = [line.name for line in resources(runs)]
    assert names[:3] == ["Features", "Training", "Whole run"]
    assert "own memory, p95 in GB" in names


def test_a_run_that_did_not_finish_is_compared_as_far_as_it_came(pair: list[Path], tmp_path: Path) -> None:
    third = Drawn(tmp_path / "third")
    third.config()
    runs = [read_run(path) for path in (*pair, third.directory)]
    assert metrics(runs)[0].cells[2] == differences(runs)[0].cells[2] == "-"
    assert "second is best" in verdict(runs, ["first", "second", "third"])
    assert verdict(runs[1:], ["second", "third"]).startswith("1 of 2 runs finished")
    assert build_comparison([*pair, third.directory], tmp_path / "compare.html").is_file()


def test_names_tell_directories_apart(tmp_path: Path) -> None:
    days = [tmp_path / "2026-11-21" / "14-03-59", tmp_path / "2026-11-22" / "14-03-59"]
    assert short_names(days) == ["2026-11-21/14-03-59", "2026-11-22/14-03-59"]
    assert short_names([days[0], days[0]]) == ["1: 14-03-59", "2: 14-03-59"]


def test_runs_on_different_photos_are_told_so(pair: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "compare.html"
    assert "tested on different photos" not in build_comparison(pair, target).read_text()
    other = Drawn(tmp_path / "other", classes=4).everything()
    assert "tested on different photos" in build_comparison([*pair, other], target).read_text()


def test_what_is_no_run_is_named(pair: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=rf"{tmp_path}/empty has no config\.yaml"):
        build_comparison([pair[0], tmp_path / "empty"], tmp_path / "compare.html")
    with pytest.raises(UserError, match="two or more"):
        build_comparison(pair[:1], tmp_path / "compare.html")

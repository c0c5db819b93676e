"""Which backbone a search recommends: as good as the best, and faster."""

from __future__ import annotations

from pathlib import Path

import pytest

from dogbreeds.features.store.store import FeatureStore
from dogbreeds.hpo import backbones
from dogbreeds.hpo.backbones import Candidate, advice, backbone_chart, candidates, worth_taking
from dogbreeds.hpo.leaderboard import FINISHED, Entry
from dogbreeds.hpo.local import search
from dogbreeds.model.paired import Paired
from dogbreeds.training.preparation import Preparations
from tests.hpo.conftest import MakePlan

PHOTOS = 250


def candidate(name: str, accuracy: float, rate: float, against_best: Paired | None) -> Candidate:
    metrics = {"val/accuracy": accuracy, "test/accuracy": accuracy}
    entry = Entry(0, FINISHED, {}, 0.5, metrics)
    return Candidate(name, entry, accuracy, PHOTOS, rate, 10.0, against_best, f"train {name}")


BEST = candidate("best", 0.944, 40, None)


@pytest.mark.parametrize(
    ("other", "taken"),
    [
        (candidate("equal and faster", 0.940, 80, Paired(3, 4, PHOTOS)), "equal and faster"),
        (candidate("equal and slower", 0.940, 20, Paired(3, 4, PHOTOS)), "best"),
        (candidate("two points worse, though not clearly", 0.924, 80, Paired(5, 10, PHOTOS)), "best"),
        (candidate("a hair worse, and clearly", 0.938, 80, Paired(0, 20, 100 * PHOTOS)), "best"),
        (candidate("on other photos", 0.940, 80, None), "best"),
    ],
    ids=lambda value: value.name if isinstance(value, Candidate) else "",
)
def test_the_fastest_that_is_as_good_is_worth_taking(other: Candidate, taken: str) -> None:
    assert worth_taking([BEST, other]).name == taken
    lines = advice([BEST, other])
    assert lines[0].startswith(f"take   {taken}: ")
    assert lines[1] == f"train  train {taken}"


def test_the_page_has_all_that_decides() -> None:
    worse = candidate("worse", 0.80, 160, Paired(2, 38, PHOTOS))
    chart = backbone_chart([BEST, worse])
    assert "Worth taking is best" in chart.message
    assert chart.table is not None
    first, second = chart.table.rows
    assert first[:3] == ("best", "94.4%", "90.8% to 96.6%")
    assert second[-1].startswith("clearly worse: -14.4 points")
    assert advice([]) == []


@pytest.mark.ci
def test_a_search_over_backbones_times_them(plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([100.0, 50.0])
    monkeypatch.setattr(backbones, "photos_per_second", lambda *_: next(rates))
    made = plan("hpo=exact", "weight_decay=0.1", "model=resnet18,squeezenet1_1")
    board = search(made, tmp_path)
    assert board.best is not None
    # By accuracy, whatever the losses say.
    for entry, accuracy in zip(board.finished, (0.5, 0.9), strict=True):
        assert isinstance(entry.metrics, dict)
        entry.metrics["val/accuracy"] = accuracy
    rates = iter([100.0, 50.0])
    with FeatureStore(tmp_path / "features", 1e9) as store:
        found = candidates(board, made, Preparations(store))
    assert [one.entry for one in found] == list(board.finished)[::-1]
    take, train = board.advice
    # What is printed can be typed as a single run.
    assert f"model={take.split()[1].rstrip(':')}" in train
    assert {"weight_decay=0.1", "optimizer=exact"} <= set(train.split())
    assert "hpo=" not in train
    assert "take " in board.outcome
    assert 'id="chart-backbones"' in (tmp_path / "search.html").read_text()
    alone = search(plan("hpo=exact", "weight_decay=0.1,0.3"), tmp_path / "alone")
    assert alone.advice == ()

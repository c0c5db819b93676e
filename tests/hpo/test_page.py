"""search.html: whole without the network, safe whatever a trial says, and complete whatever trials there are."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest

from dogbreeds.hpo.leaderboard import FAILED, FINISHED, PRUNED, Entry, Leaderboard
from dogbreeds.hpo.page import build_search_page
from dogbreeds.hpo.settings import Objective
from dogbreeds.hpo.space import Values, parse
from dogbreeds.report.page import plotly_script
from dogbreeds.training.history import COLUMNS, History

pytestmark = pytest.mark.slow

SPACE = parse(
    {},
    [
        "lr=tag(log, interval(0.001, 0.1))",
        "batch_size=tag(ordered, choice(256, 128))",
        "optimizer=adam,sgd",
        "model.hidden=[8],[16,4]",
        "epochs=int(interval(1, 9))",
    ],
    ["lr", "batch_size", "optimizer", "model.hidden", "epochs"],
)
VALUES: Values = {"lr": 0.01, "batch_size": "128", "optimizer": "adam", "model.hidden": "[16,4]", "epochs": 3}
RULES = {"Edge": "IssuesFound", "Overfit": "NoIssuesFound"}
CHARTS = ("history", "curves", "importances", "coordinates")


def finished(number: int, value: float, **changed: float | str) -> Entry:
    metrics = {"val/loss": value, "reference/val_loss": 0.4321, "reference/val_accuracy": 0.8}
    return Entry(number, FINISHED, {**VALUES, **changed}, value, metrics, 2, 0.5)


def page(directory: Path, entries: list[Entry], objective: str = "val/loss") -> str:
    for entry in entries[:-1]:
        (directory / str(entry.number)).mkdir(exist_ok=True)
        history = History(directory / str(entry.number) / "history.csv")
        for epoch in (1, 2):
            history.add(dict.fromkeys(COLUMNS, 0.0) | {"epoch": epoch, "val/loss": 0.5 + epoch / 8})
    board = Leaderboard.of(Objective(objective), entries, directory)
    text = build_search_page(board, SPACE).read_text()
    assert plotly_script() in text
    return text.replace(plotly_script(), "")


def figure(text: str, name: str) -> str:
    """What the page hands to plotly for one chart."""
    (found,) = re.findall(rf'id="chart-{name}">.*?<script type="application/json">(.*?)</script>', text, re.DOTALL)
    return str(found)


def test_nothing_comes_from_elsewhere_and_every_chart_is_there(tmp_path: Path) -> None:
    entries = [finished(n, 0.5 + n / 10, lr=0.01 * (n + 1), batch_size=("256", "128")[n % 2]) for n in range(4)]
    judged = [{"name": name, "status": status, "message": name, "advice": "Wider."} for name, status in RULES.items()]
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "rules.json").write_text(json.dumps({"rules": judged}))
    text = page(tmp_path, entries)
    assert "<b>Edge:</b> Edge. Wider." in text and "Overfit" not in text
    assert not re.search(r"""src\s*=|href\s*=\s*"(?!#|data:,)|@import|url\(""", text)
    assert [name for name in CHARTS if f'id="chart-{name}"' in text] == list(CHARTS)
    for name in CHARTS:
        assert figure(text, name)
    assert "exact linear" in figure(text, "history")
    assert "0.4321" in figure(text, "curves")
    # Numbers in their order, whatever was typed first.
    marks = re.findall(r'"text":"(128|256)"', figure(text, "coordinates"))
    assert marks == ["128", "256"]
    assert "4 trials: 4 finished" in text
    assert f"python train.py best_of={tmp_path}" in text


def test_a_page_that_is_made_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "optuna")
    page(tmp_path, [finished(0, 0.4), finished(1, 0.3)])
    assert caplog.text == ""


def test_what_a_trial_says_is_text(tmp_path: Path) -> None:
    failed = Entry(2, FAILED, VALUES, message="<script>alert(1)</script> & more")
    text = page(tmp_path, [finished(0, 0.5), finished(1, 0.6, lr=0.02), failed])
    assert "<script>alert" not in text
    assert "failed: &lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text


@pytest.mark.parametrize(
    "entries",
    [
        [finished(0, 0.5)],
        [finished(0, 0.5), finished(1, 0.5, lr=0.02)],
        [finished(0, 0.5), Entry(1, PRUNED, VALUES, 0.9, epochs=1), Entry(2, FAILED, {})],
    ],
    ids=["one", "equal ones", "one and others"],
)
def test_too_few_trials_for_a_chart_are_said(entries: list[Entry], tmp_path: Path) -> None:
    text = page(tmp_path, [*entries, Entry(9, FAILED, {})])
    assert "Two finished trials that differ" in text
    assert 'id="chart-importances"' not in text
    assert figure(text, "history") and figure(text, "curves") and figure(text, "coordinates")
    assert ("1 (pruned)" in figure(text, "curves")) == any(entry.state == PRUNED for entry in entries)


def test_exact_solutions_have_no_learning_curves(tmp_path: Path) -> None:
    text = page(tmp_path, [replace(finished(n, 0.5 + n / 10, lr=0.01 * (n + 1)), epochs=1) for n in range(2)])
    assert [name for name in CHARTS if f'id="chart-{name}"' in text] == ["history", "importances", "coordinates"]


def test_accuracies_are_compared_with_the_reference_accuracy(tmp_path: Path) -> None:
    text = page(tmp_path, [finished(0, 0.7), finished(1, 0.75, lr=0.02)], "val/accuracy")
    assert "highest val/accuracy" in text
    assert "0.8" in figure(text, "history")
    assert '"log"' not in figure(text, "history")
    assert '"log"' in figure(text, "curves")


def test_objectives_without_a_reference(tmp_path: Path) -> None:
    text = page(tmp_path, [finished(0, 0.7), finished(1, 0.75, lr=0.02)], "val/macro_f1")
    assert "exact linear" not in figure(text, "history")
    assert "exact linear reference" not in text


def test_trials_whose_directories_are_gone_have_no_curves(tmp_path: Path) -> None:
    board = Leaderboard.of(Objective("val/loss"), [finished(0, 0.5), finished(1, 0.6, lr=0.02)], tmp_path)
    text = build_search_page(board, SPACE).read_text().replace(plotly_script(), "")
    assert "exact linear" not in figure(text, "curves")
    assert "exact linear" in figure(text, "history")

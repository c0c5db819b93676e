"""Whole searches: what they try, keep, show and survive."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from dogbreeds.config import load_saved
from dogbreeds.errors import CacheError, ConfigError, Interrupted, UserError
from dogbreeds.hpo.leaderboard import FAILED, FINISHED, INTERRUPTED, NAN, PRUNED
from dogbreeds.hpo.local import search
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.resuming import resumed, save_plan
from dogbreeds.hpo.trial import run_trial
from dogbreeds.package.examples import load_examples
from dogbreeds.package.package import load_package
from dogbreeds.run_directory import HEAD, RUN_CONFIG, STORAGE
from dogbreeds.training import preparation
from dogbreeds.training.fitting import fit_trial
from dogbreeds.training.run import train
from tests.conftest import Compose
from tests.hpo.conftest import MakePlan, composed

pytestmark = pytest.mark.slow

KEPT = {"config.yaml", "metrics.json", "history.csv", "head.safetensors", "predictions.csv"}
OF_THE_BEST = {"model", "index.csv", "report.html", "rules.json", "audit.csv", "debugger"}


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "leaderboard.csv").open() as file:
        return list(csv.DictReader(file))


def states(directory: Path) -> dict[int, str]:
    return {int(row["trial"]): row["state"] for row in rows(directory)}


def tried(directory: Path) -> list[tuple[str, str]]:
    """Values and result of the trials that came to an end, by number."""
    found = [row for row in rows(directory) if row["state"] == FINISHED]
    return [(row["lr"], row["val/loss"]) for row in sorted(found, key=lambda row: int(row["trial"]))]


def metrics_of(directory: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((directory / "metrics.json").read_text())
    return values


def test_a_search_leaves_leaderboard_best_values_and_page(plan: MakePlan, tmp_path: Path) -> None:
    made = plan("hpo=bayes")
    board = search(made, tmp_path)
    assert states(tmp_path) == dict.fromkeys(range(4), FINISHED)
    assert board.best is not None
    best = tmp_path / str(board.best.number)
    for number in range(4):
        names = {path.name for path in (tmp_path / str(number)).iterdir()}
        assert names == (KEPT | OF_THE_BEST if number == board.best.number else KEPT)
    rules = json.loads((best / "rules.json").read_text())["rules"]
    judged = {rule["name"]: rule["status"] for rule in rules}
    assert judged["SearchedRangeEdge"] in ("NoIssuesFound", "IssuesFound")
    assert judged["Overfit"] == "NotApplicable"
    losses = [metrics_of(tmp_path / str(number))["val/loss"] for number in range(4)]
    assert board.best.value == min(losses) == losses[board.best.number]
    assert [float(row["val/loss"]) for row in rows(tmp_path)] == sorted(losses)
    assert [row["rank"] for row in rows(tmp_path)] == ["1", "2", "3", "4"]
    # The first trial is what a single run does.
    assert made.defaults() == {"lr": 0.01, "batch_size": "256"}
    assert load_saved(tmp_path / "0" / RUN_CONFIG).lr == 0.01
    description, _ = load_package(best / "model")
    assert description.metrics["val/loss"] == board.best.value
    assert description.temperature == metrics_of(best)["temperature"] != 1
    assert len(load_examples(best / "model")) == 6
    assert f"| Accuracy | {description.metrics['test/accuracy']:.1%} |" in (best / "model" / "README.md").read_text()
    assert f"{board.best.value:.4f}" in board.outcome
    assert (tmp_path / "search.html").stat().st_size > 1_000_000


@pytest.mark.ci
@pytest.mark.parametrize(
    "settings",
    [(), ("model.head=mlp", "model.class_weights=balanced"), ("model.unfreeze=fire9",), ("data.views=2",)],
    ids=["linear", "mlp with dropout", "tail", "views"],
)
def test_a_trial_is_the_same_arithmetic_as_a_run(
    settings: tuple[str, ...], plan: MakePlan, config: Compose, cache: Path, tmp_path: Path
) -> None:
    # The second trial must not feel that there was a first.
    search(plan("lr=0.1,0.002", "batch_size=12", *settings), tmp_path / "search")
    run = train(config("lr=0.002", f"cache.dir={cache}", *settings))
    single, trial = run.metrics, metrics_of(tmp_path / "search" / "1")
    for metrics in (single, trial):
        del metrics["seconds"], metrics["features"]
    assert trial == single
    trained = load_file(tmp_path / "search" / "1" / HEAD)
    packaged = load_file(run.directory / "model" / "model.safetensors")
    assert {name.split(".")[0] for name in trained} == ({"tail", "head"} if "fire9" in str(settings) else {"head"})
    assert all(torch.equal(packaged[name], tensor) for name, tensor in trained.items())


@pytest.mark.ci
def test_trials_share_what_does_not_depend_on_them(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, prepared = preparation.prepare, []

    def counting(*arguments: Any) -> preparation.Prepared:
        prepared.append(prepare(*arguments))
        return prepared[-1]

    monkeypatch.setattr(preparation, "prepare", counting)
    search(plan("hpo=random", "hpo.trials=5", "model.head=linear,mlp"), tmp_path / "heads")
    assert len(prepared) == 1
    search(plan("data.views=0,1", "model.weights=random", "seed=0,1"), tmp_path / "others")
    # Views, and the seed of random weights, make other features.
    assert len(prepared) == 1 + 4


def test_the_exact_search_finds_the_reference(plan: MakePlan, tmp_path: Path) -> None:
    board = search(plan("hpo=exact"), tmp_path)
    assert board.best is not None
    assert len(board.finished) == 7
    assert board.best.value == pytest.approx(board.best.metrics["reference/val_loss"], abs=1e-6)
    assert float(board.best.values["weight_decay"]) == metrics_of(tmp_path / "0")["reference/strength"]
    # Exact is exact: as a run of its own it is the same to the last digit.
    saved = load_saved(tmp_path / str(board.best.number) / RUN_CONFIG)
    saved.run_dir = str(tmp_path / "again")
    assert train(saved).metrics["val/loss"] == board.best.value


# --- what goes wrong


def test_failed_nan_and_pruned_trials_are_recorded_and_survived(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(config: Any, *arguments: Any) -> Any:
        if config.run_dir == str(tmp_path / "2"):
            raise RuntimeError("the machine is on fire")
        return fit_trial(config, *arguments)

    monkeypatch.setattr("dogbreeds.training.run.fit_trial", failing)
    settings = ("hpo=hyperband", "hpo.trials=12", "hpo.min_epochs=1", "epochs=9", "optimizer=sgd")
    board = search(plan(*settings, "lr=tag(log, interval(1e-8, 1e30))", "batch_size=12"), tmp_path)
    found = states(tmp_path)
    assert len(found) == 12
    assert {FINISHED, PRUNED, NAN, FAILED} == set(found.values())
    assert [number for number, state in found.items() if state == FAILED] == [2]
    assert board.best is not None and found[board.best.number] == FINISHED
    by_state = {row["state"]: row for row in rows(tmp_path)}
    assert by_state[FAILED]["message"].startswith("RuntimeError: the machine is on fire (see ")
    assert "Traceback" in (tmp_path / "2" / "error.txt").read_text()
    assert "never finite" in by_state[NAN]["message"]
    for row in rows(tmp_path):
        metrics = metrics_of(tmp_path / row["trial"]) if row["state"] in (PRUNED, FINISHED) else {}
        if row["state"] == PRUNED:
            # Cut short, and worth its best epoch as all others are.
            assert 1 <= int(row["epochs"]) < 9
            assert float(row["val/loss"]) == metrics["val/loss"] > board.best.value
    page = (tmp_path / "search.html").read_text()
    assert "the machine is on fire" in page
    assert "1 failed" in board.summary()


def test_a_search_of_which_nothing_is_left_says_why(plan: MakePlan, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No trial of .* finished \(2 nan\)\. Trial 0: .* never finite"):
        search(plan("optimizer=sgd", "batch_size=12", "lr=1e29,1e30"), tmp_path)
    assert [row["state"] for row in rows(tmp_path)] == [NAN, NAN]
    assert not (tmp_path / "best.yaml").exists()


def test_what_no_trial_can_do_without_stops_the_search(plan: MakePlan, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"cache\.max_gb"):
        search(plan("hpo=random", "cache.max_gb=1e-6", f"cache.dir={tmp_path / 'cache'}"), tmp_path / "search")
    assert not (tmp_path / "search" / "leaderboard.csv").exists()


def test_what_only_one_trial_needs_fails_that_trial(plan: MakePlan, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pth"
    damaged.write_text("no weights")
    search(plan(f"model.weights='{damaged}',random"), tmp_path / "search")
    assert states(tmp_path / "search") == {0: FAILED, 1: FINISHED}


def test_two_processes_cannot_run_one_search(plan: MakePlan, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(UserError, match="another process is running there"):
        search(plan("hpo=random"), tmp_path)


# --- going on


@pytest.mark.ci
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(
    plan: MakePlan, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*small, "model=squeezenet1_1", "hpo=bayes", "hpo.trials=5"]
    search(Plan(arguments, composed, None), tmp_path / "whole")

    def interrupted(config: Any, *rest: Any) -> Any:
        if Path(config.run_dir).name == "3":
            raise KeyboardInterrupt
        return fit_trial(config, *rest)

    part = tmp_path / "part"
    monkeypatch.setattr("dogbreeds.training.run.fit_trial", interrupted)
    with pytest.raises(Interrupted, match=f"python train.py -m resume={part}"):
        search(Plan(arguments, composed, None), part)
    monkeypatch.undo()
    assert states(part) == {0: FINISHED, 1: FINISHED, 2: FINISHED, 3: INTERRUPTED}
    assert (part / "search.html").is_file() and (part / "best.yaml").is_file()
    kept = {path: path.stat().st_mtime_ns for number in range(4) for path in (part / str(number)).glob("*.*")}

    search(resumed(part, [f"resume={part}"], composed, None), part)
    assert states(part) == {**dict.fromkeys([0, 1, 2, 4, 5], FINISHED), 3: INTERRUPTED}
    assert tried(part) == tried(tmp_path / "whole")
    # What was there is not touched, but for the report of the best one.
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items() if path.name in KEPT - {"metrics.json"})


def test_a_search_that_is_stopped_at_its_report_says_how_to_continue(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dogbreeds.hpo.local.build_search_page", stopped)
    with pytest.raises(Interrupted, match=f"Continue with: python train.py -m resume={tmp_path}"):
        search(plan("lr=0.1", "hpo=random", "hpo.trials=1"), tmp_path)


@pytest.mark.ci
def test_a_finished_search_can_be_made_longer(small: list[str], tmp_path: Path) -> None:
    arguments = [*small, "model=squeezenet1_1", "hpo=random"]
    search(Plan([*arguments, "hpo.trials=2"], composed, None), tmp_path)
    before = tried(tmp_path)
    longer = resumed(tmp_path, [f"resume={tmp_path}", "hpo.trials=4"], composed, None)
    search(longer, tmp_path)
    assert tried(tmp_path)[:2] == before
    assert len(tried(tmp_path)) == 4
    # With nothing left to do it only shows what there is.
    assert len(search(longer, tmp_path).finished) == 4
    with pytest.raises(ConfigError, match=r"hpo\.trials can only be raised"):
        resumed(tmp_path, ["hpo.trials=3"], composed, None)
    assert len(resumed(tmp_path, ["hpo.trials=9"], composed, None).arguments) == len(arguments) + 1


def test_a_search_that_was_moved_packages_its_best_trial_where_it_is(small: list[str], tmp_path: Path) -> None:
    first, moved = tmp_path / "first", tmp_path / "moved"
    board = search(Plan([*small, "model=squeezenet1_1", "lr=0.1,0.01"], composed, None), first)
    assert board.best is not None
    first.rename(moved)
    best = moved / str(board.best.number)
    (best / "report.html").unlink()
    shutil.rmtree(best / "model")
    # Photos and features were moved too.
    photos = shutil.copytree(
        next(one for one in small if one.startswith("data.dir=")).partition("=")[2], tmp_path / "photos"
    )
    here = [f"data.dir={photos}", f"cache.dir={tmp_path / 'other'}"]
    search(resumed(moved, here, composed, None), moved)
    assert (best / "report.html").is_file() and (best / "model" / "model.json").is_file()
    assert not first.exists()
    # It stays there.
    next(photos.glob("train/*/*")).unlink()
    with pytest.raises(ConfigError, match=r"data\.dir: what is there now is not what this was begun with"):
        search(resumed(moved, [], composed, None), moved)


def test_files_that_somebody_removed_or_damaged(
    small: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = [*small, "model=squeezenet1_1", "lr=0.1,0.01"]
    board = search(Plan(arguments, composed, None), tmp_path)
    assert board.best is not None
    shutil.rmtree(tmp_path / str(board.best.number))
    with caplog.at_level("WARNING"):
        again = search(resumed(tmp_path, [], composed, None), tmp_path)
    assert again.entries == board.entries
    assert "cannot be packaged" in caplog.text and "best_of=" in caplog.text
    log = tmp_path / STORAGE
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([lines[0], "no json\n", *lines[1:]]))
    with pytest.raises(UserError, match=f"{STORAGE} is damaged"):
        search(resumed(tmp_path, [], composed, None), tmp_path)
    log.unlink()
    with pytest.raises(UserError, match=f"{STORAGE} is missing"):
        search(resumed(tmp_path, [], composed, None), tmp_path)
    (tmp_path / "search.yaml").write_text("a: b: c")
    with pytest.raises(ConfigError, match=r"search\.yaml is damaged"):
        resumed(tmp_path, [], composed, None)


def test_only_the_same_search_is_continued(small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"not a search"):
        resumed(tmp_path, [], composed, None)
    save_plan(Plan([*small, "model=squeezenet1_1", "hpo=random"], composed, None), tmp_path)
    with pytest.raises(ConfigError, match=r"lr=0\.5 cannot apply"):
        resumed(tmp_path, ["lr=0.5"], composed, None)
    search_yaml = (tmp_path / "search.yaml").read_text()
    (tmp_path / "search.yaml").write_text(search_yaml.replace("epochs: 3", "epochs: 4", 1))
    with pytest.raises(ConfigError, match=r"conf/ has changed since .*\(epochs\)"):
        resumed(tmp_path, [], composed, None)


def test_a_debugging_search_leaves_the_features_of_the_user_alone(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = plan("trainer=debug", "lr=0.1,0.01", "cache.dir=${run_dir}/cache", "epochs=1")
    board = search(made, tmp_path / "search")
    assert [path.name for path in tmp_path.iterdir()] == ["search"]
    assert (tmp_path / "search" / "cache").is_dir()
    assert metrics_of(tmp_path / "search" / "0")["debug"] is True
    assert "their numbers mean nothing" in board.outcome
    assert not capsys.readouterr().out
    assert "Debugging runs on one batch" in (tmp_path / "search" / "search.html").read_text()


def test_a_result_that_is_no_number_is_no_result(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(config: Any, *rest: Any) -> dict[str, Any]:
        metrics = run_trial(config, *rest)
        return metrics | ({"val/loss": math.nan} if config.run_dir.endswith("0") else {})

    monkeypatch.setattr("dogbreeds.hpo.local.run_trial", spoiled)
    board = search(plan("lr=0.1,0.01"), tmp_path)
    assert states(tmp_path) == {0: NAN, 1: FINISHED}
    assert board.best is not None and board.best.number == 1

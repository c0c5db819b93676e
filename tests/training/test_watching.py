"""Whole runs on drawn dogs under the debugger: what they leave, what stops them, what survives a failure."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from dogbreeds.debug.measurements import PARTS
from dogbreeds.debug.record import EVAL, TRAIN, Record, Row, read_record
from dogbreeds.debug.rules import hardware
from dogbreeds.debug.rules.classes import StalledTrainingRule
from dogbreeds.debug.watch import Pace, StallWatch
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.run_directory import METRICS, OPERATORS, REPORT, RULES, TRACE
from dogbreeds.training.fitting import NeverFiniteError
from dogbreeds.training.run import train
from dogbreeds.training.watching import report_again
from tests.conftest import Compose

pytestmark = pytest.mark.slow


@pytest.fixture
def own_cache(cache: Path) -> Path:
    return cache


def judged(run: Path) -> dict[str, dict[str, Any]]:
    return {rule["name"]: rule for rule in json.loads((run / RULES).read_text())["rules"]}


def test_what_a_run_leaves_on_record(config: Compose, tmp_path: Path) -> None:
    result = train(config("epochs=4", "profiler.system_seconds=0.1"))
    run = tmp_path / "run"
    record = read_record(run)
    # 36 photos in batches of 12.
    assert [row.step for row in record.of(TRAIN)] == list(range(12))
    assert [row.step for row in record.of(EVAL)] == [3, 6, 9, 12]
    steps = record.measurements.steps
    assert [(times.step, times.epoch) for times in steps] == [(step, step // 3 + 1) for step in range(12)]
    assert all(getattr(times, part) > 0 for times in steps for part in PARTS if part not in ("move", "logging"))
    phases = [phase.name for phase in record.measurements.phases]
    assert [name for name in phases if name != "validation"] == [
        "start-up", "index", "backbone", "features", "reference", "audit", "training", "test", "package",
    ]  # fmt: skip
    assert phases.count("validation") == 4
    training = next(phase for phase in record.measurements.phases if phase.name == "training")
    assert training.began <= min(times.at for times in steps) and max(times.at for times in steps) <= training.ended
    assert sum(times.total for times in steps) < training.seconds
    samples = record.measurements.samples
    assert samples and all(len(sample.cores) == os.cpu_count() for sample in samples)
    assert record.facts.images == {"train": 36, "valid": 18, "test": 18}
    assert record.facts.versions["torch"] and record.facts.machine["cores"]
    assert record.metrics == result.metrics
    assert set(judged(run)) == {name for name, rule in config().debugger.rules.items() if rule is not None}
    assert judged(run)["SearchedRangeEdge"]["status"] == "NotApplicable"


def test_nothing_is_recorded_where_nothing_is_wanted(config: Compose, tmp_path: Path) -> None:
    assert "rules" not in train(config("debugger=off", "profiler=off")).summary()
    left = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*")}
    assert "rules.json" not in left
    assert {name for name in left if name.startswith(("debugger", "profiler"))} == {
        "debugger", "debugger/facts.json", "profiler", "profiler/phases.jsonl",
    }  # fmt: skip


def test_watching_changes_no_result(config: Compose, tmp_path: Path) -> None:
    results = []
    for number, watching in enumerate((("debugger=off", "profiler=off"), ("debugger=default", "profiler=default"))):
        metrics = train(config(*watching, f"run_dir={tmp_path / str(number)}", "model.head=mlp")).metrics
        results.append({name: value for name, value in metrics.items() if name not in ("seconds", "features")})
    assert results[0] == results[1]


@pytest.mark.ci
def test_an_issue_stops_a_run_that_is_complete_all_the_same(
    config: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wild = ("lr=10000", "epochs=80", "patience=80", "model.head=mlp")
    result = train(config(*wild, "debugger.on_issue=stop"))
    assert result.metrics["epochs"] < 80
    assert "training ends here because of" in caplog.text
    run = tmp_path / "run"
    for name in (METRICS, RULES, REPORT, "model.tar.gz", "predictions.csv"):
        assert (run / name).is_file(), name
    assert set(result.issues) & {"LossNotDecreasing", "ExplodingTensor", "WeightUpdateRatio"}
    fired = judged(run)[result.issues[0]]
    assert fired["status"] == "IssuesFound" and fired["count"] and fired["message"] and fired["advice"]
    assert f"issues found by {', '.join(result.issues)}" in result.summary()
    assert train(config(*wild, f"run_dir={tmp_path / 'told'}")).metrics["epochs"] == 80


def test_each_issue_is_told_once(config: Compose, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = train(config("lr=10000", "epochs=30", "patience=30", "model.head=mlp"))
    told = [message.split(":")[0] for message in caplog.messages if message.split(":")[0] in result.issues]
    assert sorted(told) == sorted(set(told)) and told


def test_a_run_that_fails_leaves_what_it_came_to(config: Compose, tmp_path: Path) -> None:
    with pytest.raises(NeverFiniteError):
        train(config("lr=1e30", "optimizer=sgd", "model.head=mlp"))
    run = tmp_path / "run"
    assert not (run / METRICS).exists()
    assert judged(run)["ExplodingTensor"]["status"] == "IssuesFound"
    assert (run / REPORT).is_file()
    assert [phase.name for phase in read_record(run).measurements.phases][-1] == "training"


@pytest.mark.parametrize("ended", [SystemExit(0), None], ids=["leaves", "returns"])
def test_the_other_machines_of_a_job_end_without_a_word(
    ended: SystemExit | None,
    config: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fitted(*_: Any) -> None:
        if ended is not None:
            raise ended

    monkeypatch.setattr("dogbreeds.training.run.fit", fitted)
    monkeypatch.setenv("NODE_RANK", "1")
    try:
        result = train(config())
        assert (result.metrics, result.summary()) == ({}, "")
    except SystemExit:
        assert ended is not None
    assert "did not finish" not in caplog.text
    run = tmp_path / "run"
    assert [name for name in (METRICS, REPORT, RULES, "model") if (run / name).exists()] == []


def test_a_continued_run_has_one_record(config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A cosine over two epochs is not the beginning of one over three.
    whole = read_record(train(config(f"run_dir={tmp_path / 'whole'}", "schedule=constant")).directory)
    train(config("epochs=2", "schedule=constant"))
    run = tmp_path / "run"
    saved = (run / "config.yaml").read_text().replace("epochs: 2", "epochs: 3")
    (run / "config.yaml").write_text(saved)
    train(config(f"resume={run}"))
    record = read_record(run)
    assert [(row.mode, row.step) for row in record.rows] == [(row.mode, row.step) for row in whole.rows]
    assert dict(record.scalar("loss")) == pytest.approx(dict(whole.scalar("loss")))
    assert [phase.name for phase in record.measurements.phases].count("start-up") == 2


def test_a_directory_has_nothing_of_a_run_that_failed_there(config: Compose, tmp_path: Path) -> None:
    place = f"run_dir={tmp_path / 'run'}"
    with pytest.raises(UserError, match="no such file"):
        train(config(place, "model.weights=gone.pth"))
    train(config(place, "epochs=2"))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    record = read_record(tmp_path / "run")
    assert [times.step for times in record.measurements.steps] == list(range(6))
    assert [phase.name for phase in record.measurements.phases].count("start-up") == 1
    train(config(place, "epochs=1"))
    moved = tmp_path / "run-before"
    assert {path: (moved / path.relative_to(tmp_path / "run")).read_bytes() for path in before} == before
    assert [times.step for times in read_record(tmp_path / "run").measurements.steps] == [0, 1, 2]


def test_a_trace_opens_and_names_operators(config: Compose, tmp_path: Path) -> None:
    train(config("profiler=trace", "profiler.trace_steps=4"))
    run = tmp_path / "run"
    with gzip.open(run / TRACE, "rt") as file:
        events = json.load(file)["traceEvents"]
    assert sum(event.get("name", "").startswith("ProfilerStep") for event in events) == 4
    content = json.loads((run / OPERATORS).read_text())
    assert content["steps"] == 4
    times = [operator["cpu_ms"] for operator in content["operators"]]
    assert times == sorted(times, reverse=True) and times[0] > 0
    assert any(operator["name"] == "aten::addmm" and operator["calls"] >= 4 for operator in content["operators"])


def test_a_run_too_short_to_trace_says_so(config: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(config("profiler=trace", "epochs=1", "batch_size=36"))
    assert "ended before a step could be traced" in caplog.text
    assert not (tmp_path / "run" / TRACE).exists()


def test_what_was_recorded_can_be_judged_again(config: Compose, tmp_path: Path) -> None:
    run = train(config()).directory
    before = judged(run)
    for name in (RULES, REPORT):
        (run / name).unlink()
    said = report_again(run)
    after = judged(run)
    # The machine was sampled once more, or for the first time, when the run ended.
    assert before.keys() == after.keys()
    assert {name: rule for name, rule in after.items() if before[name] != rule}.keys() <= vars(hardware).keys()
    assert said.splitlines()[-1] == f"report {run / REPORT}"
    assert (run / REPORT).is_file()
    with pytest.raises(ConfigError, match="not a run directory"):
        report_again(tmp_path)


def test_what_is_done_again_and_again_takes_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("dogbreeds.debug.watch.time.monotonic", lambda: now)
    pace = Pace(share=0.1, seconds=5.0)
    assert pace.due
    with pace.doing():
        now += 2.0
    # 2 seconds are a tenth of 20.
    now += 19.9
    assert not pace.due
    now += 0.2
    assert pace.due
    with pace.doing():
        now += 0.1
    now += 4.9
    assert not pace.due
    now += 0.2
    assert pace.due


@pytest.mark.parametrize("stop", [False, True])
def test_a_run_that_hangs_is_told_from_outside(stop: bool, caplog: pytest.LogCaptureFixture) -> None:
    # A process in the background may have been told to ignore what Ctrl-C sends.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    record = Record([Row(TRAIN, 7, 1, time.time())])
    stalls = StallWatch(StalledTrainingRule(threshold=0.2), record, stop=stop)
    stalls.start()
    interrupted = False
    end = time.monotonic() + 60
    try:
        # A step that hangs until that is noticed.
        while time.monotonic() < end and (stop or "StalledTrainingRule" not in caplog.text):
            time.sleep(0.05)
    except KeyboardInterrupt:
        interrupted = True
    stalls.end()
    signal.signal(signal.SIGINT, usual)
    assert interrupted is stop
    assert re.search(r"StalledTrainingRule: no step for \d+ s after step 7", caplog.text)


def test_a_run_that_goes_on_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    record = Record([Row(TRAIN, 7, 1, time.time())])
    stalls = StallWatch(StalledTrainingRule(threshold=60.0), record, stop=True)
    stalls.start()
    time.sleep(0.1)
    stalls.end()
    assert not caplog.text

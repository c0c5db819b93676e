"""The report of a run that was killed, and the page that compares runs, as a person gets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dogbreeds.debug.record import TRAIN, read_record
from dogbreeds.run_directory import METRICS, RECORD, REPORT, RULES
from tests.commands.test_commands import SMALL, run, succeeded
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.ci
def test_a_run_that_was_killed_has_a_report_up_to_there(sample: Path, tmp_path: Path) -> None:
    directory = tmp_path / "killed"
    process = subprocess.Popen(
        [
            sys.executable, "train.py", f"data.dir={sample}", *SMALL, "epochs=2000", "patience=2000",
            f"cache.dir={tmp_path / 'cache'}", f"hydra.run.dir={directory}",
        ],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    record = directory / RECORD
    while (not record.exists() or record.stat().st_size < 50_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (directory / METRICS).exists(), "the run ended before it could be killed"
    (directory / REPORT).unlink(missing_ok=True)
    (directory / RULES).unlink(missing_ok=True)

    said = succeeded("scripts/report.py", f"run={directory}")
    assert f"report {directory / REPORT}" in said
    assert len(read_record(directory).of(TRAIN)) > 10
    judged = {rule["name"]: rule["status"] for rule in json.loads((directory / RULES).read_text())["rules"]}
    assert judged["ExplodingTensor"] == "NoIssuesFound"
    assert judged["HeadBelowReference"] == "NotApplicable"
    page = (directory / REPORT).read_text(encoding="utf-8")
    assert "did not finish" in page.lower()


@pytest.mark.ci
def test_runs_are_compared(sample: Path, tmp_path: Path) -> None:
    names = []
    for rate in ("0.01", "0.001"):
        names.append(str(tmp_path / rate))
        succeeded("train.py", f"lr={rate}", f"data.dir={sample}", *SMALL, f"hydra.run.dir={names[-1]}")
    page = tmp_path / "page.html"
    assert f"comparison {page}" in succeeded("scripts/report.py", f"runs={','.join(names)}", f"out={page}")
    text = page.read_text(encoding="utf-8")
    assert "0.001" in text and "test/accuracy" in text.replace("test accuracy", "test/accuracy").lower()
    assert run("scripts/report.py", f"runs={names[0]},{tmp_path}").returncode == 2

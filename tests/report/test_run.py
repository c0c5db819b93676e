"""What the report reads of a run: damaged files are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dogbreeds.errors import UserError
from dogbreeds.report.run import read_run
from dogbreeds.run_directory import (
    AUDIT,
    FACTS,
    HISTORY,
    INDEX,
    METRICS,
    OPERATORS,
    PHASES,
    PREDICTIONS,
    RECORD,
    RULES,
    RUN_CONFIG,
    STEPS,
    SYSTEM,
)


def damaged_is_named(run: Path, name: str, content: bytes) -> None:
    (run / RUN_CONFIG).write_text("lr: 0.1\n")
    read_run(run)
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_run(run)
    said = str(caught.value)
    assert said.startswith(f"{run / name} is damaged") and "\n" not in said


@pytest.mark.parametrize("content", [b"\xff\n", b"{\n", b"3\n"])
@pytest.mark.parametrize("name", [METRICS, RULES, FACTS, OPERATORS, RECORD, STEPS, SYSTEM, PHASES])
def test_a_damaged_file_of_a_run_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    damaged_is_named(tmp_path, name, content)


@pytest.mark.parametrize("content", [b"\xff\n", b"a,b\n1\n"])
@pytest.mark.parametrize("name", [HISTORY, PREDICTIONS, INDEX, AUDIT])
def test_a_damaged_table_of_a_run_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    damaged_is_named(tmp_path, name, content)


@pytest.mark.parametrize("content", [b"", b"\xff\n", b"3\n", b"[1]\n", b"a: [\n"])
def test_a_damaged_config_of_a_run_is_named(tmp_path: Path, content: bytes) -> None:
    damaged_is_named(tmp_path, RUN_CONFIG, content)

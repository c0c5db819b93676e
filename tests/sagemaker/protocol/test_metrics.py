"""What a job prints is what the service reads."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dogbreeds.hpo.settings import OBJECTIVES
from dogbreeds.sagemaker.protocol.metrics import METRICS, metric_definitions, metric_line
from dogbreeds.training.history import COLUMNS

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 10**6)


def read(line: str) -> dict[str, str]:
    """What the service reads: it looks for each expression anywhere in a line."""
    found = {one["Name"]: re.search(one["Regex"], line) for one in metric_definitions()}
    return {name: match[1] for name, match in found.items() if match}


@given(st.dictionaries(st.sampled_from(sorted(METRICS)), numbers))
def test_what_is_printed_is_read(row: dict[str, float]) -> None:
    assert {name: float(text) for name, text in read(metric_line(row)).items()} == row


def test_every_objective_and_every_curve_can_be_read() -> None:
    assert {*OBJECTIVES, *COLUMNS} - {"step"} <= set(METRICS)


def test_only_known_finite_numbers_are_printed() -> None:
    row = {"val/loss": math.nan, "train/loss": math.inf, "classes": ["a"], "other": 1.0, "val/accuracy": 0.5}
    assert metric_line(row) == "[dogbreeds] val/accuracy=0.5"


@pytest.mark.parametrize(
    "line",
    [
        "epoch   1/3  train loss 0.5 accuracy 0.1  valid loss 0.1 accuracy 0.2",
        "model.weights=/val/loss=3",
        "[dogbreeds] xval/loss=1.0",
        "[dogbreeds] val/loss=1.0.0",
        "[dogbreeds] val/loss=nan",
    ],
)
def test_other_lines_are_no_numbers(line: str) -> None:
    assert read(line) == {}


def test_the_service_takes_the_definitions() -> None:
    definitions = metric_definitions()
    assert len(definitions) <= 20, "of a tuning job; a training job takes 40"
    for one in definitions:
        assert len(one["Name"]) <= 255 and len(one["Regex"]) <= 500
        assert re.compile(one["Regex"]).groups == 1

"""The record: what is kept of a tensor, and what a crash costs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from dogbreeds.debug.record import EVAL, TRAIN, Facts, Row, Searched, read_record
from dogbreeds.debug.recorder import describe
from dogbreeds.files import Appender
from dogbreeds.run_directory import RECORD


def test_statistics_are_those_of_the_values() -> None:
    values = torch.cat([torch.arange(-50.0, 50.0), torch.zeros(20)])
    found = describe(values.reshape(10, 12))
    assert found.mean == pytest.approx(float(values.mean()))
    assert found.variance == pytest.approx(float(values.var(correction=0)))
    assert (found.minimum, found.maximum) == (-50, 49)
    assert found.p50 == pytest.approx(float(values.median()), abs=1)
    assert found.p5 == pytest.approx(float(values.quantile(0.05)), abs=1)
    assert found.p95 == pytest.approx(float(values.quantile(0.95)), abs=1)
    assert found.mean_absolute == pytest.approx(float(values.abs().mean()))
    assert found.zeros == pytest.approx(21 / 120)
    assert (found.nan, found.infinite) == (0, 0)


def test_values_that_are_no_numbers_are_counted_and_left_out() -> None:
    found = describe(torch.tensor([1.0, math.nan, math.inf, -math.inf, 3.0]))
    assert (found.nan, found.infinite) == (1, 2)
    assert (found.mean, found.minimum, found.maximum) == (2.0, 1.0, 3.0)
    nothing = describe(torch.tensor([math.nan, math.nan]))
    assert nothing.nan == 2
    assert math.isnan(nothing.mean)


def test_large_tensors_are_sampled_for_their_percentiles() -> None:
    values = torch.linspace(0, 1, 3_000_001)[torch.randperm(3_000_001, generator=torch.Generator().manual_seed(0))]
    found = describe(values)
    assert found.p95 == pytest.approx(0.95, abs=0.03)
    assert found.maximum == 1.0


def row(step: int, mode: str = TRAIN, loss: float = 0.5) -> Row:
    tensors = {"gradient/head.weight": describe(torch.arange(4.0)), "weight/head.weight": describe(torch.ones(3))}
    return Row(mode, step, 1, step / 10, {"loss": loss}, tensors if mode == TRAIN else {})


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rows = [row(0), row(1), row(1, EVAL, math.inf)]
    writer = Appender(tmp_path / RECORD, every=100)
    for one in rows:
        writer.add(one.line())
    writer.close()
    found = read_record(tmp_path)
    assert found.rows == rows
    assert found.scalar("loss") == [(0, 0.5), (1, 0.5)]
    assert found.scalar("loss", EVAL) == [(1, math.inf)]
    assert list(found.tensors("gradient")) == ["head.weight"]
    assert [step for step, _ in found.tensors("weight")["head.weight"]] == [0, 1]
    assert found.last_step == 1


def test_a_crash_costs_one_flush_at_most(tmp_path: Path) -> None:
    path = tmp_path / RECORD
    writer = Appender(path, every=3)
    for step in range(7):
        writer.add(row(step).line())
    # What a killed process leaves: whole flushes, and perhaps a torn line.
    assert [one.step for one in read_record(tmp_path).rows] == [0, 1, 2, 3, 4, 5]
    writer.close()
    path.write_bytes(path.read_bytes()[:-30])
    assert [one.step for one in read_record(tmp_path).rows] == [0, 1, 2, 3, 4, 5]
    again = Appender(path, every=1)
    again.add(row(9).line())
    again.close()
    assert [one.step for one in read_record(tmp_path).rows] == [0, 1, 2, 3, 4, 5, 9]


def test_facts_come_back_as_they_were_saved(tmp_path: Path) -> None:
    assert Facts.read(tmp_path) == Facts()
    facts = Facts({"beagle": 3, "poodle": 4}, epochs=5, searched={"lr": Searched(0.001, 0.1, 0.099, log=True)})
    facts.save(tmp_path)
    assert Facts.read(tmp_path) == facts

"""What is measured comes back from its line."""

from __future__ import annotations

import pytest

from dogbreeds.debug.measurements import PARTS, Gpu, Phase, Sample, StepTimes

SAMPLE = Sample(5.5, 50.0, (20.0, 80.0), 1.5, 30.0, 10**9, 1.0, 2.0, 3.0, 4.0, 120.0, 10**8)


def test_lines_come_back() -> None:
    gpu = Gpu(99.0, 10**9, 8 * 10**9, power=300.0)
    for sample in (SAMPLE, Sample(**{**vars(SAMPLE), "gpus": (gpu, gpu)})):
        assert Sample.parsed(sample.line()) == sample
        assert Sample.parsed(sample.line().replace('"power"', '"received":1.0,"power"')) == sample
    phase = Phase("training", 1.0, 3.5)
    assert Phase.parsed(phase.line()) == phase
    assert phase.seconds == 2.5
    times = StepTimes(3, 1, 1234.567, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    assert StepTimes.parsed(times.line()) == times


def test_the_parts_of_a_step_make_the_whole() -> None:
    assert PARTS == ("data", "move", "forward", "backward", "record", "optimizer", "logging")
    assert StepTimes(0, 1, 99.0, 1, 1, 1, 1, 1, 1, 1).total == pytest.approx(7)

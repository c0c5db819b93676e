"""Rules over samples of the machine, each on a small record on which it fires and on one on which it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dogbreeds.debug.measurements import Gpu, Measurements, Sample, StepTimes
from dogbreeds.debug.record import Record
from dogbreeds.debug.rules.hardware import (
    BatchSize,
    CPUBottleneck,
    GPUMemoryIncrease,
    IOBottleneck,
    LoadBalancing,
    LowGPUUtilization,
    OverallSystemUsage,
)
from dogbreeds.debug.rules.verdict import ISSUES, NO_ISSUES, NOT_APPLICABLE

GB = 10**9


def record(
    *utilization: Sequence[float],
    memory: Sequence[float] | float = 50.0,
    cpu: Sequence[float] | float = 50.0,
    io_wait: Sequence[float] | float = 0.0,
    steps: Sequence[StepTimes] = (),
) -> Record:
    """One sample a second, from second 0: the utilization of each GPU, its memory, CPU and I/O wait in percent."""
    points = len(utilization[0]) if utilization else len(np.atleast_1d(cpu))
    columns = [np.broadcast_to(np.asarray(one, dtype=float), points) for one in (memory, cpu, io_wait)]
    samples = []
    for at in range(points):
        used, busy, waiting = (float(column[at]) for column in columns)
        gpus = tuple(Gpu(series[at], int(used * GB / 100), GB) for series in utilization)
        samples.append(Sample(float(at), busy, (busy,), waiting, 50.0, GB, 0.0, 0.0, 0.0, 0.0, 100.0, GB, gpus))
    return Record(measurements=Measurements(samples, list(steps)))


def ended(*moments: tuple[int, float]) -> list[StepTimes]:
    return [StepTimes(step, 1, at) for step, at in moments]


FEW = [0.0] * 9
RULES: list[Any] = [
    LowGPUUtilization(patience=10),
    CPUBottleneck(patience=10),
    IOBottleneck(patience=10),
    GPUMemoryIncrease(patience=10),
    BatchSize(patience=10),
    LoadBalancing(patience=10),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_nothing_is_said_without_a_gpu_or_before_patience(rule: Any) -> None:
    without = rule.judge(record(cpu=[99.0] * 20))
    assert (without.status, without.message) == (NOT_APPLICABLE, "no GPU on this machine")
    early = rule.judge(record(FEW, FEW))
    assert (early.status, early.message) == (NOT_APPLICABLE, "only 9 data points; 10 are needed")
    assert rule.judge(record([*FEW, 0.0], [*FEW, 0.0])).status != NOT_APPLICABLE
    assert (rule.judge(Record()).status, rule.judge(Record()).message) == (NOT_APPLICABLE, "no data points")


def test_samples_that_lack_a_gpu_are_left_out() -> None:
    one, two = record([0.0] * 15), record([0.0] * 9, [0.0] * 9)
    both = Record(measurements=Measurements([*one.measurements.samples, *two.measurements.samples]))
    assert LowGPUUtilization(patience=10).judge(both).status == NOT_APPLICABLE
    assert LowGPUUtilization(patience=9).judge(both).status == ISSUES


def test_a_gpu_that_works_little() -> None:
    rule = LowGPUUtilization(window=20, patience=20)
    # The 95th percentile of 20 points lies just above the second largest.
    assert rule.judge(record([60.0] * 18 + [90.0] * 2)).status == NO_ISSUES
    found = rule.judge(record([60.0] * 19 + [90.0]))
    assert found.status == ISSUES and "GPU 0" in found.message and "works little" in found.message
    assert "features.batch_size" in found.advice
    assert LowGPUUtilization(threshold_p95=60.0, window=20, patience=20).judge(record([60.0] * 20)).status == NO_ISSUES


def test_a_gpu_that_works_on_and_off() -> None:
    rule = LowGPUUtilization(window=20, patience=20)
    assert rule.judge(record([0.0] + [95.0] * 19)).status == NO_ISSUES
    found = rule.judge(record([95.0] * 40, [0.0, 95.0] * 20))
    assert found.status == ISSUES and "GPU 1" in found.message and "on and off" in found.message
    assert (
        LowGPUUtilization(threshold_p5=0.0, window=20, patience=20).judge(record([0.0, 95.0] * 10)).status == NO_ISSUES
    )


def test_windows_slide_and_findings_have_the_step_nearest_in_time() -> None:
    # Every 2 points, the last 8: low utilization fills them from point 20 on, the window that ends at 27.
    series = [95.0] * 20 + [20.0] * 12 + [95.0] * 8
    steps = ended((0, 10.0), (1, 26.6), (2, 27.5), (3, 31.0), (4, 60.0))
    found = LowGPUUtilization(window=8, patience=8).judge(record(series, steps=steps))
    assert found.steps == (1, 2, 3)
    assert "at step 1 " in found.message
    assert LowGPUUtilization(window=8, patience=8).judge(record(series)).steps == (0, 0, 0)
    assert LowGPUUtilization(window=8, patience=34).judge(record(series)).status == NO_ISSUES


def test_a_processor_that_keeps_the_gpus_waiting() -> None:
    rule = CPUBottleneck(patience=10)
    idle, busy = [5.0] * 10, [95.0] * 6 + [50.0] * 4
    found = rule.judge(record(idle, cpu=busy, steps=ended((3, 2.0), (7, 8.0))))
    assert (found.status, found.steps) == (ISSUES, (7,))
    assert "60%" in found.message and "step 7" in found.message and "data.workers" in found.advice
    assert rule.judge(record(idle, cpu=[95.0] * 5 + [50.0] * 5)).status == NO_ISSUES
    assert rule.judge(record([10.0] * 10, cpu=busy)).status == NO_ISSUES
    assert rule.judge(record(idle, cpu=[90.0] * 10)).status == NO_ISSUES
    assert rule.judge(record(idle, [50.0] * 10, cpu=busy)).status == NO_ISSUES
    assert CPUBottleneck(patience=10, threshold=60.0).judge(record(idle, cpu=busy)).status == NO_ISSUES


def test_disks_that_keep_the_gpus_waiting() -> None:
    rule = IOBottleneck(patience=10)
    waiting = [60.0] * 6 + [0.0] * 4
    found = rule.judge(record([65.0] * 10, io_wait=waiting))
    assert found.status == ISSUES and "60%" in found.message and "cache.dir" in found.advice
    assert rule.judge(record([65.0] * 10, io_wait=[60.0] * 5 + [0.0] * 5)).status == NO_ISSUES
    assert rule.judge(record([70.0] * 10, io_wait=waiting)).status == NO_ISSUES
    assert rule.judge(record([65.0] * 10, io_wait=50.0)).status == NO_ISSUES


def test_memory_that_fills_up() -> None:
    rule = GPUMemoryIncrease(window=8, patience=8)
    # The average of 8 points rises by 8 times the slope from one window to the next.
    working = [90.0] * 40
    assert rule.judge(record(working, memory=[20.0 + 1.2 * n for n in range(40)])).status == NO_ISSUES
    found = rule.judge(record(working, memory=[20.0 + 1.3 * n for n in range(40)]))
    assert found.status == ISSUES and "GPU 0" in found.message and "batch_size" in found.advice
    assert rule.judge(record(working, memory=[80.0 - 2 * n for n in range(40)])).status == NO_ISSUES
    # One peak is not an increase of the average.
    assert rule.judge(record(working, memory=[20.0] * 20 + [95.0] + [20.0] * 19)).status == NO_ISSUES


def test_growth_is_seen_before_a_window_is_full() -> None:
    # Averages end at 10, 20 and 30 points: 20%, 35% and 40%.
    rule, series = GPUMemoryIncrease(window=40, patience=10), [20.0] * 10 + [50.0] * 20
    found = rule.judge(record([90.0] * 30, memory=series, steps=ended((0, 0.0), (1, 19.0), (2, 29.0))))
    assert found.steps == (1, 2)
    assert "from 20% to 35%" in found.message
    # Memory that is filled before the first average is what training needs.
    assert rule.judge(record([90.0] * 30, memory=[0.0] * 5 + [90.0] * 5 + [45.0] * 20)).status == NO_ISSUES


@pytest.mark.parametrize("high", ["cpu", "gpu", "other gpu", "memory"])
def test_batches_are_too_small_where_nothing_is_used_much(high: str) -> None:
    rule = BatchSize(window=20, patience=20)
    used = {name: [80.0 if name == high else 60.0] * 20 for name in ("cpu", "gpu", "other gpu", "memory")}
    idle = record([60.0] * 20, [60.0] * 20, cpu=60.0, memory=60.0)
    assert rule.judge(idle).status == ISSUES
    assert "GPU memory 60%" in rule.judge(idle).message and "batch_size" in rule.judge(idle).advice
    busy = record(used["gpu"], used["other gpu"], cpu=used["cpu"], memory=used["memory"])
    assert rule.judge(busy).status == NO_ISSUES


def test_gpus_that_do_not_work_alike() -> None:
    rule = LoadBalancing()
    found = rule.judge(record([90.0] * 20, [85.0] * 20, [20.0] * 20))
    assert found.status == ISSUES and len(found.steps) == 2
    assert "GPU 0 works at 90% and GPU 2 at 20%" in found.message and "0.70" in found.message
    assert rule.judge(record([90.0] * 20, [41.0] * 20)).status == NO_ISSUES
    # It is histograms that are compared: GPUs that take turns work alike.
    assert rule.judge(record([0.0, 100.0] * 10, [100.0, 0.0] * 10)).status == NO_ISSUES
    assert LoadBalancing(threshold=0.4).judge(record([90.0] * 20, [45.0] * 20)).status == ISSUES
    assert rule.judge(record([90.0] * 20)).message == "only one GPU"


def test_overall_usage_is_told_and_is_no_issue() -> None:
    found = OverallSystemUsage().judge(record([float(n) for n in range(101)], cpu=[float(n) for n in range(101)]))
    assert (found.status, found.steps) == (NO_ISSUES, ())
    assert "CPU 50, 95 and 99 %" in found.message and "GPU 0 utilization 50, 95 and 99 %" in found.message
    assert OverallSystemUsage().judge(Record()).status == NOT_APPLICABLE

"""The system sampler: on this machine for real, with GPUs that only pretend."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from dogbreeds.debug.measurements import Gpu, Sample, usage_percentiles
from dogbreeds.debug.system import machine, sampler
from dogbreeds.debug.system.gpus import Gpus, visible
from dogbreeds.debug.system.machine import Machine, ProcessTree
from dogbreeds.debug.system.sampler import SystemSampler
from dogbreeds.run_directory import SYSTEM

UUIDS = ["GPU-11aa", "GPU-12bb", "GPU-33cc"]


def samples_in(path: Path) -> list[Sample]:
    return [Sample.parsed(line) for line in path.read_text().splitlines()]


def a_sample(**changed: Any) -> Sample:
    plain = Sample(0.0, 0.0, (0.0,), 0.0, 0.0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
    return Sample(**{**vars(plain), **changed})


def compute(seconds: float) -> None:
    """Keeps a core busy until it has worked for so long; other threads can run Python meanwhile."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        hashlib.sha256(bytes(2**22))


def test_a_thread_that_computes_shows(tmp_path: Path) -> None:
    with SystemSampler(tmp_path / SYSTEM, 0.2) as watched:
        deadline = time.monotonic() + 60
        while not watched.samples and time.monotonic() < deadline:
            time.sleep(0.01)
        worker = threading.Thread(target=compute, args=(0.6,))
        worker.start()
        worker.join()
    samples = samples_in(tmp_path / SYSTEM)
    used = sum(after.own_cpu / 100 * (after.at - before.at) for before, after in pairwise(samples))
    assert used > 0.5
    assert max(sample.cpu for sample in samples) > 0
    assert all(len(sample.cores) == psutil.cpu_count() for sample in samples)
    assert all(0 < sample.memory <= 100 and sample.memory_used > sample.own_memory > 2**20 for sample in samples)
    assert [sample.at for sample in samples] == sorted(sample.at for sample in samples)
    assert abs(samples[-1].at - time.time()) < 3600


class Clock:
    """Time that passes when something waits or works."""

    def __init__(self, work: list[float]) -> None:
        self.now, self.work, self.sampled, self.moments = 100.0, work, 0.0, [0.0]

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        assert seconds >= 0
        self.now += seconds
        return len(self.moments) > len(self.work)

    def set(self) -> None:
        self.now += 0.25

    def sample(self) -> Sample:
        self.moments.append(round(self.now - 100, 6))
        self.sampled = self.now
        self.now += self.work[len(self.moments) - 2] if len(self.moments) <= len(self.work) + 1 else 0.0
        return a_sample()


def test_the_pace_does_not_drift_and_missed_times_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(work=[0.1, 0.1, 0.1, 1.2, 0.1])
    monkeypatch.setattr(sampler, "Machine", lambda gpus: clock)
    monkeypatch.setattr(sampler, "time", clock)
    watched = SystemSampler(tmp_path / SYSTEM, 0.5)
    monkeypatch.setattr(watched, "_left", clock)
    watched._run()
    assert clock.moments[1:6] == [0.5, 1.0, 1.5, 2.0, 3.5]
    assert len(samples_in(tmp_path / SYSTEM)) == 6


def test_a_last_sample_is_taken_unless_the_one_before_was_just_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shortest, expected in ((0.0, 1), (1000.0, 0)):
        monkeypatch.setattr(sampler, "_MIN_SECONDS", shortest)
        path = tmp_path / str(expected) / SYSTEM
        with SystemSampler(path, 60.0):
            pass
        assert len(samples_in(path)) == expected


def test_a_resumed_run_appends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "_MIN_SECONDS", 0.0)
    for _ in range(2):
        with SystemSampler(tmp_path / SYSTEM, 60.0):
            pass
    assert len(samples_in(tmp_path / SYSTEM)) == 2


def test_a_failure_is_logged_once_and_the_run_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed = threading.Event()
    measure = Machine.sample

    def fail_later(self: Machine) -> Sample:
        if (tmp_path / SYSTEM).stat().st_size:
            failed.set()
            raise RuntimeError("no more")
        return measure(self)

    monkeypatch.setattr(Machine, "sample", fail_later)
    with SystemSampler(tmp_path / SYSTEM, 0.01) as watched:
        assert failed.wait(60)
        watched._thread.join(60)
    assert not watched._thread.is_alive()
    assert len(samples_in(tmp_path / SYSTEM)) == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "no more" in caplog.text


def test_a_file_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "profiler").write_text("a file where the directory would be")
    with SystemSampler(tmp_path / SYSTEM, 0.01):
        done = True
    assert done and "no longer sampled" in caplog.text


@contextmanager
def grandchild(code: str) -> Iterator[subprocess.Popen[str]]:
    """Runs Python in a child of a child, which ends at the end of its input; it has said its first line."""
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    with subprocess.Popen([sys.executable, "-c", outer], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline()
        yield process


def until(reached: Callable[[float, int], bool], tree: ProcessTree) -> tuple[float, int]:
    """Reads until the sum of the seconds and the memory are as they should be."""
    seconds, deadline = 0.0, time.monotonic() + 60
    while time.monotonic() < deadline:
        used, memory = tree.read()
        assert used >= 0
        seconds += used
        if reached(seconds, memory):
            return seconds, memory
        time.sleep(0.01)
    raise AssertionError(f"{seconds} s and {memory} bytes")


def test_memory_and_work_of_descendants_count_while_they_live() -> None:
    tree = ProcessTree(psutil.Process())
    _, before = tree.read()
    code = """
import time
held = bytearray(b"x" * 100_000_000)
print("ready", flush=True)
input()
while time.process_time() < 0.6: pass
print("worked", flush=True)
input()
"""
    with grandchild(code) as process:
        assert process.stdin and process.stdout
        until(lambda seconds, memory: memory > before + 100_000_000, tree)
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "worked\n"
        until(lambda seconds, memory: seconds > 0.3, tree)
        print(file=process.stdin, flush=True)
    _, after = tree.read()
    assert after < before + 50_000_000


def test_writing_a_file_shows_where_the_disks_are_counted(tmp_path: Path) -> None:
    measured = Machine(Gpus())
    before = psutil.disk_io_counters()
    subprocess.run(["dd", "if=/dev/zero", f"of={tmp_path / 'file'}", "bs=1M", "count=8", "conv=fsync"], check=True)
    after = psutil.disk_io_counters()
    if before is None or after is None or after.write_bytes - before.write_bytes < 8_000_000:
        pytest.skip("the disk under the temporary directory is not counted")
    assert measured.sample().written > 0


def test_traffic_is_that_of_disks_and_of_the_network_without_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    disks = SimpleNamespace(read_bytes=1000, write_bytes=2000)
    cards = {
        "lo": SimpleNamespace(bytes_recv=9, bytes_sent=9),
        "eth0": SimpleNamespace(bytes_recv=10, bytes_sent=20),
        "eth1": SimpleNamespace(bytes_recv=100, bytes_sent=200),
    }
    flags = {"lo": "up,loopback,running", "eth0": "up,broadcast", "eth1": "up"}
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: disks)
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: cards)
    monkeypatch.setattr(psutil, "net_if_stats", lambda: {n: SimpleNamespace(flags=f) for n, f in flags.items()})
    monkeypatch.setattr(machine, "time", SimpleNamespace(monotonic=lambda: now, time=time.time, thread_time=lambda: 0))
    now = 50.0
    measured = Machine(Gpus())
    now = 52.0
    disks.read_bytes, disks.write_bytes = 1500, 2000
    cards["lo"].bytes_recv, cards["eth0"].bytes_recv, cards["eth1"].bytes_sent = 10**6, 30, 240
    sample = measured.sample()
    assert (sample.read, sample.written, sample.received, sample.sent) == (250, 0, 10, 20)
    now = 53.0
    del cards["eth0"]
    assert measured.sample().received == 0


def test_counters_that_a_machine_lacks_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable() -> None:
        raise NotImplementedError("no /proc/diskstats")

    for disks in (lambda: None, unavailable):
        monkeypatch.setattr(psutil, "disk_io_counters", disks)
        monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: {})
        monkeypatch.setattr(psutil, "cpu_times_percent", lambda: SimpleNamespace(idle=100.0))
        sample = Machine(Gpus()).sample()
        assert (sample.read, sample.written, sample.received, sample.sent, sample.io_wait) == (0, 0, 0, 0, 0)


class NVMLError(Exception):
    """The library's own."""


class Nvml:
    """What is used of NVML; functions named in `broken` fail."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        self.broken: set[tuple[str, int]] = set()
        self.calls: list[str] = []

    def _told(self, name: str, handle: int, value: Any) -> Any:
        self.calls.append(name)
        if (name, handle) in self.broken:
            raise NVMLError("Not Supported")
        return value

    def nvmlInit(self) -> None:
        self._told("init", 0, None)

    def nvmlShutdown(self) -> None:
        self._told("shutdown", 0, None)

    def nvmlDeviceGetCount(self) -> int:
        return int(self._told("count", 0, len(UUIDS)))

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return int(self._told("handle", number, number))

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return str(self._told("uuid", handle, UUIDS[handle]))

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return self._told("utilization", handle, SimpleNamespace(gpu=10 * handle, memory=5))

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return self._told("memory", handle, SimpleNamespace(used=handle * 10**9, total=16 * 10**9, free=0))

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return int(self._told("power", handle, 65_500))

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return int(self._told("temperature", handle, 40 + handle))


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    library = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return library


def test_gpus_are_read_in_plain_units(nvml: Nvml) -> None:
    gpus = Gpus()
    found = gpus.read()
    assert found[1] == Gpu(10.0, 10**9, 16 * 10**9, power=65.5, temperature=41.0)
    assert [gpu.temperature for gpu in found] == [40, 41, 42]
    gpus.close()
    assert (nvml.calls.count("init"), nvml.calls.count("shutdown")) == (1, 1)


def test_what_a_gpu_does_not_report_is_none(nvml: Nvml) -> None:
    nvml.broken = {("power", 0), ("temperature", 1)}
    found = Gpus().read()
    assert (found[0].power, found[1].temperature) == (None, None)
    assert (found[1].power, found[0].temperature) == (65.5, 40)


@pytest.mark.parametrize(
    ("broken", "measured"),
    [
        ({("utilization", 0), ("memory", 2)}, [10]),
        ({("handle", 0)}, [10, 20]),
        ({("uuid", 1)}, [0, 20]),
        ({("count", 0)}, []),
        ({("shutdown", 0)}, [0, 10, 20]),
    ],
    ids=["readings", "handle", "uuid", "count", "shutdown"],
)
def test_an_error_of_one_gpu_ends_neither_the_others_nor_the_processor(
    broken: set[tuple[str, int]], measured: list[int], nvml: Nvml
) -> None:
    nvml.broken = broken
    with closing(Gpus()) as gpus:
        assert [gpu.utilization for gpu in Machine(gpus).sample().gpus] == measured


def test_a_gpu_that_fails_keeps_its_position(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.broken = {("handle", 0)}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    assert [gpu.utilization for gpu in Gpus().read()] == [20]


def test_a_gpu_that_fails_later_ends_the_gpus_alone(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    measured = Machine(Gpus())
    assert len(measured.sample().gpus) == 3
    nvml.broken = {("memory", 1)}
    assert [len(measured.sample().gpus) for _ in range(3)] == [0, 0, 0]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_no_gpus_without_a_driver_or_the_library(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.broken = {("init", 0)}
    without_driver = Gpus()
    assert without_driver.read() == ()
    without_driver.close()
    assert "shutdown" not in nvml.calls
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Gpus().read() == ()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        ("0, 1", [0, 1]),
        ("1,7,0", [1]),
        ("GPU-33cc,GPU-12", [2, 1]),
        ("GPU-1", []),
        ("MIG-33cc", []),
    ],
)
def test_cuda_visible_devices(setting: str | None, expected: list[int]) -> None:
    assert visible(UUIDS, setting) == expected


def test_usage_has_percentiles_with_units() -> None:
    samples = [a_sample(cpu=float(percent), read=1e6 * percent, own_memory=3 * 10**9) for percent in range(101)]
    found = {one.name: one for one in usage_percentiles(samples)}
    assert list(found) == [
        "CPU",
        "I/O wait",
        "memory",
        "disk read",
        "disk written",
        "network received",
        "network sent",
        "own CPU",
        "own memory",
    ]
    cpu = found["CPU"]
    assert (cpu.maximum, cpu.p99, cpu.p95, cpu.p50, cpu.minimum) == pytest.approx((100, 99, 95, 50, 0))
    assert (found["disk read"].p95, found["disk read"].unit) == (pytest.approx(95), "MB/s")
    assert (found["own memory"].p50, found["own memory"].unit) == (pytest.approx(3), "GB")
    assert usage_percentiles([]) == []


def test_percentiles_of_gpus_leave_out_what_was_not_reported() -> None:
    first, second = Gpu(50.0, 4, 16, power=100.0), Gpu(70.0, 8, 16, temperature=60.0)
    found = {one.name: one for one in usage_percentiles([a_sample(gpus=(first, second)), a_sample(gpus=(first,))])}
    told = [name for name in found if name.startswith("GPU")]
    assert told == [
        "GPU 0 utilization",
        "GPU 0 memory",
        "GPU 0 power",
        "GPU 1 utilization",
        "GPU 1 memory",
        "GPU 1 temperature",
    ]
    assert (found["GPU 0 memory"].maximum, found["GPU 1 temperature"].unit) == (25, "°C")

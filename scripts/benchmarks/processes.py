"""Processes of their own, so that start-up counts as it does for a user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.asking import Asked
from benchmarks.pixel_loop import LoopTimes
from dogbreeds.debug.measurements import Phase
from dogbreeds.errors import UserError
from dogbreeds.files import read_lines
from dogbreeds.run_directory import PHASES

_SAMPLE_SECONDS = 0.02
#: What is in no phase of a run, such as its report, and the run as a whole.
REST, WHOLE = "report and the rest", "whole run"


@dataclass(frozen=True)
class Part:
    """Seconds of a part of a run, and the most memory (GB) that was resident in it and is not a mapped file."""

    seconds: float
    gigabytes: float


def run(*arguments: str) -> float:
    """Runs Python with arguments from the repository root and returns the seconds that it took.

    Raises:
        UserError: It failed; the message has what it printed.
    """
    began = time.perf_counter()
    _output(*arguments)
    return time.perf_counter() - began


def watched(run_dir: Path, *arguments: str) -> dict[str, Part]:
    """Runs a training run in a new directory, and returns what each of its parts took."""
    samples: list[tuple[float, float]] = []
    began = time.time()
    with tempfile.TemporaryFile() as printed:
        command = [sys.executable, *arguments, f"hydra.run.dir={run_dir}"]
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            samples.append((time.time(), _anonymous(status.read_text())))
            time.sleep(_SAMPLE_SECONDS)
        if process.returncode != 0:
            printed.seek(0)
            raise UserError(f"python {' '.join(arguments)} failed:\n{printed.read().decode()[-4000:]}")
    ended = time.time()
    phases = read_lines(run_dir / PHASES, Phase.parsed)
    found: dict[str, Part] = {}
    for phase in phases:
        inside = [gigabytes for at, gigabytes in samples if phase.began <= at <= phase.ended]
        before = found.get(phase.name, Part(0.0, 0.0))
        found[phase.name] = Part(before.seconds + phase.seconds, max([before.gigabytes, *inside]))
    outside = [gigabytes for at, gigabytes in samples if not any(phase.began <= at <= phase.ended for phase in phases)]
    known = sum(part.seconds for name, part in found.items() if name != "validation")
    found[REST] = Part(ended - began - known, max(outside, default=0.0))
    return found | {WHOLE: Part(ended - began, max(gigabytes for _, gigabytes in samples))}


def _anonymous(status: str) -> float:
    lines = [line.split() for line in status.splitlines() if line.startswith(("RssAnon:", "RssShmem:"))]
    return sum(int(line[1]) for line in lines) * 1024 / 1e9


def pixel_loop(folder: Path, photos: int) -> LoopTimes:
    """Times the loop of the replaced systems on a sample of a folder's photos."""
    return LoopTimes(**json.loads(_output("-m", "benchmarks.pixel_loop", str(folder), str(photos))))


def asking(port: int, clients: int, requests: int, folder: Path) -> Asked:
    """Has clients ask the server at a port for the photos of a folder."""
    numbers = (str(number) for number in (port, clients, requests))
    return Asked(**json.loads(_output("-m", "benchmarks.asking", *numbers, str(folder))))


def _output(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)
    if ended.returncode != 0:
        raise UserError(f"python {' '.join(arguments)} failed:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return ended.stdout

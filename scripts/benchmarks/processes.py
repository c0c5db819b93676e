"""Processes of their own, so that start-up counts as it does for a user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.asking import Asked
from benchmarks.pixel_loop import LoopTimes
from dogbreeds.errors import UserError


def run(*arguments: str) -> float:
    """Runs Python with arguments from the repository root and returns the seconds that it took.

    Raises:
        UserError: It failed; the message has what it printed.
    """
    began = time.perf_counter()
    _output(*arguments)
    return time.perf_counter() - began


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

"""Commands as a person types them, in processes that have the heavy imports behind them already.

Each command has a process, arguments, streams and an exit code of its own, and need not import torch and Lightning.
A test of what an interpreter does from its start, such as what `--help` imports, starts one.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.conftest import ROOT

SECONDS = 300
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["tests.commands.typed", "torch", "torchvision", "pytorch_lightning", "tensorboard", "optuna", "hydra", "boto3"]
)


class Typed:
    """A command that was started.

    Attributes:
        pid: Of its process.
    """

    def __init__(self, *arguments: str) -> None:
        """Starts `python <arguments>` from the repository root."""
        self.arguments = arguments
        self._streams = tempfile.TemporaryDirectory(prefix="dogbreeds-typed-")
        self._out, self._err = (Path(self._streams.name) / name for name in ("out", "err"))
        self._process: ForkServerProcess = _CONTEXT.Process(
            target=_command, args=([str(one) for one in arguments], dict(os.environ), self._out, self._err)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def wait(self, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
        """Returns how it ended and what it printed.

        Raises:
            TimeoutError: It did not end.
        """
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
            raise TimeoutError(f"{' '.join(self.arguments)} took more than {seconds} s:\n{self._err.read_text()}")
        done = subprocess.CompletedProcess(self.arguments, code, self._out.read_text(), self._err.read_text())
        self._process.close()
        self._streams.cleanup()
        return done

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self._out.read_text() if self._out.exists() else ""

    def ended(self) -> bool:
        return self._process.exitcode is not None


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a Python command of the README from the repository root."""
    if arguments[0].startswith("-"):
        # Of the interpreter.
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    return Typed(*arguments).wait()


def succeeded(*arguments: str) -> str:
    """Runs one that must succeed, and returns what it prints."""
    done = run(*arguments)
    assert done.returncode == 0, (arguments, done.stderr)
    return str(done.stdout)


def _command(arguments: list[str], environment: dict[str, str], out: Path, err: Path) -> None:
    # A session of its own, as a shell gives a command.
    os.setsid()
    for stream, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, stream)
        os.close(opened)
    # Buffered as streams are that lead to a file, so that what a killed command had not written is lost here too.
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv[:] = arguments
    sys.path.insert(0, str((ROOT / arguments[0]).parent))
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    finally:
        sys.stdout.flush()

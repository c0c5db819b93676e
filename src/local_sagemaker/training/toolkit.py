"""AWS's training toolkit as a process, with everything that it starts."""

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

#: `train`, whatever the PATH says.
TRAIN = (sys.executable, "-m", "sagemaker_training.cli.train")
#: Tells the toolkit where a job's files lie: /opt/ml on AWS.
BASE_VARIABLE = "SAGEMAKER_BASE_DIR"
_READ_BYTES = 1 << 16


class Toolkit:
    """A running `train`, in a process group of its own; stdout and stderr are read as one."""

    def __init__(self, command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._rest, self._killed = b"", False

    @property
    def exit_code(self) -> int | None:
        """That of `train`, None while it runs; what it started may outlive it."""
        return self._process.poll()

    def lines(self, seconds: float) -> list[str] | None:
        """Returns new lines, waiting some seconds for one; None once all processes that could write have ended."""
        if not self._selector.select(seconds):
            # Killed processes write nothing more, even if another process still holds their end of the pipe.
            return None if self._killed else []
        chunk = self._output.read(_READ_BYTES)
        if chunk:
            *whole, self._rest = (self._rest + chunk).split(b"\n")
        elif chunk is None:
            return []
        elif self._rest:
            whole, self._rest = [self._rest], b""
        else:
            return None
        return [line.decode("utf-8", "replace").rstrip("\r") for line in whole]

    def terminate(self) -> None:
        """Sends `train` SIGTERM, as the service does; the toolkit does not pass it on."""
        self._process.terminate()

    def kill(self) -> None:
        self._killed = True
        kill_group(self._process.pid)

    def close(self) -> None:
        self.kill()
        self._process.wait()
        self._selector.close()
        self._output.close()


def kill_group(leader: int) -> None:
    """Kills the processes of a group, and those that its leader started in other groups."""
    try:
        strays = psutil.Process(leader).children(recursive=True)
    except psutil.NoSuchProcess:
        strays = []
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
    for stray in strays:
        with suppress(psutil.NoSuchProcess):
            stray.kill()


def kill_left_over(machines: Path) -> None:
    """Kills what jobs have left running whose service was killed; `machines` is the directory of their disks."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(BASE_VARIABLE, "").startswith(f"{machines}{os.sep}"):
                process.kill()

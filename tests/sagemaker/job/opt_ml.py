"""A directory laid out like /opt/ml, and jobs that AWS's own toolkit runs in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dogbreeds.sagemaker.requests.job import PROGRAM

ROOT = Path(__file__).parents[3]
_HOST = "localhost"


class OptMl:
    """One job's directory."""

    def __init__(self, base: Path, hyperparameters: Mapping[str, str], channels: Mapping[str, Path]) -> None:
        self.base = base
        self.checkpoints = base.parent / "checkpoints"
        for name in ("input/config", "input/data", "model", "output/data"):
            (base / name).mkdir(parents=True)
        self.checkpoints.mkdir(exist_ok=True)
        for name in ("src", "conf"):
            shutil.copytree(ROOT / name, base / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name, path in channels.items():
            if path.is_dir():
                (base / "input/data" / name).symlink_to(path)
            else:
                (base / "input/data" / name).mkdir()
                shutil.copy(path, base / "input/data" / name)
        group = {"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": [_HOST]}
        self._write("hyperparameters", {**hyperparameters, "sagemaker_program": PROGRAM})
        self._write("inputdataconfig", {name: {"TrainingInputMode": "File"} for name in channels})
        self._write(
            "resourceconfig",
            {
                "current_host": _HOST,
                "hosts": [_HOST],
                "network_interface_name": "lo",
                "current_instance_type": "local",
                "current_group_name": "homogeneousCluster",
                "instance_groups": [group],
            },
        )

    def _write(self, name: str, content: Mapping[str, object]) -> None:
        (self.base / "input/config" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")

    def start(self) -> subprocess.Popen[str]:
        """Starts the toolkit, in a group of processes of its own."""
        own = {
            "SAGEMAKER_BASE_DIR": str(self.base),
            "LOCAL_SAGEMAKER_CHECKPOINT_DIR": str(self.checkpoints),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        # The code is the job's own, and not what is installed here.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.Popen(
            [Path(sys.executable).parent / "train"],
            env=inherited | own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self) -> tuple[int, str]:
        """Runs the job to its end; returns its exit code and what it printed."""
        process = self.start()
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    @property
    def data(self) -> Path:
        return self.base / "output/data"

    @property
    def model(self) -> Path:
        return self.base / "model"

    @property
    def failure(self) -> str:
        return (self.base / "output/failure").read_text(encoding="utf-8")


def kill(process: subprocess.Popen[str]) -> None:
    """Kills a toolkit and all that it started, at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

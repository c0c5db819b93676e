"""The container of an endpoint: serves a model archive as AWS's container for Ray Serve does."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from local_sagemaker.calls import Answer, JobFailure, LocalSageMakerError
from local_sagemaker.serving.ray_process import kill_session
from local_sagemaker.training.instance import bare_environment

_SERVING = Path(__file__).with_name("ray_process.py")
_TIMEOUT_SECONDS = 300.0
_PING_SECONDS = 5.0
_JSON = "application/json"
_PASSED_ON = "x-amzn-sagemaker-"
_REMEMBERED_LINES = 200
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A token of another cluster on this machine would be taken for this one's.
    "RAY_AUTH_MODE": "disabled",
    "RAY_COLOR_PREFIX": "0",
}


class InferenceContainer:
    """An unpacked archive, served by Ray in processes of its own; nobody outside this machine can reach it.

    What AWS would install by code/requirements.txt has to be there already. `environment` are the variables that the
    model was created with, `log` gets each line that its processes write, and `close` removes the directory.
    """

    def __init__(
        self, archive: Path, directory: Path, environment: Mapping[str, str], log: Callable[[str], None]
    ) -> None:
        self._archive, self._directory = archive, directory
        self._given, self._log = environment, log
        self._model = directory / "ml" / "model"
        # Paths of sockets have 107 bytes at most, so this is not below the directory.
        self._scratch = Path(tempfile.mkdtemp(prefix="ray-"))
        self._running = self._scratch / "running"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = int(free.getsockname()[1])
        self._last: deque[str] = deque(maxlen=_REMEMBERED_LINES)
        # Guards the process and whether it may still be started.
        self._lock = threading.Lock()
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._live, name="inference container")

    def start(self) -> None:
        self._thread.start()

    def ready(self) -> bool:
        """Says whether it answers. AWS takes it for ready a little sooner, before its replicas have loaded."""
        if self._failure is not None:
            raise JobFailure(self._failure)
        if not self._running.exists():
            return False
        try:
            return self._ask("GET", "/-/healthz", b"", {}, _PING_SECONDS)[0] == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def invoke(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Asks the application at /, as the adapter in AWS's container does; answers 503 or 504 where it cannot."""
        passed = {"content-type": _JSON, "accept": _JSON}
        for name, value in headers.items():
            if name.lower() in passed or name.lower().startswith(_PASSED_ON):
                passed[name.lower()] = value
        try:
            return self._ask("POST", "/", body, passed, _TIMEOUT_SECONDS)
        except TimeoutError:
            return _error(504, "Request timeout")
        except (OSError, http.client.HTTPException) as error:
            self._log(f"ERROR: Cannot connect to Ray Serve: {error}")
            return _error(503, "Service unavailable")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._process is not None:
                kill_session(self._process.pid)
        if self._thread.ident is not None:
            self._thread.join()
        for directory in (self._scratch, self._directory):
            shutil.rmtree(directory, ignore_errors=True)

    def _live(self) -> None:
        try:
            process = self._launch(self._command())
        except LocalSageMakerError as error:
            self._fail(str(error))
            return
        assert process.stdout is not None and process.stdin is not None
        with process.stdin, process.stdout:
            for line in process.stdout:
                self._say(line.decode("utf-8", "replace").rstrip())
            # What it leaves behind would answer for a container that is gone; until it is waited for its id stays.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            with self._lock:
                kill_session(process.pid)
                code = process.wait()
                # From here on another process may have that id.
                self._process = None
        reason = next((line for line in reversed(self._last) if line.startswith("ERROR: ")), f"exit code {code}")
        self._fail(f"The container ended ({reason.removeprefix('ERROR: ')}).")

    def _command(self) -> list[str]:
        """Unpacks the archive, and returns what serves it."""
        try:
            with tarfile.open(self._archive) as tar:
                tar.extractall(self._model, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            reason = str(error).partition("\n")[0]
            raise LocalSageMakerError(f"{self._archive.name} cannot be unpacked: {reason}") from error
        if (self._model / "code" / "requirements.txt").exists():
            self._say("code/requirements.txt is not installed here: what it names must be there already.")
        config = self._model / "config.yaml"
        if not config.exists():
            raise LocalSageMakerError("No Ray Serve application found: the archive needs a config.yaml at its root.")
        gpus = _gpus(config)
        there = len(list(Path("/dev").glob("nvidia[0-9]*")))
        if gpus > there:
            self._say(f"config.yaml asks for {gpus} GPUs, this machine has {there}: the processor does their work.")
        command = [sys.executable, "-P", str(_SERVING), str(config)]
        command += [f"--port={self._port}", f"--directory={self._scratch}", f"--running={self._running}"]
        return [*command, f"--gpus={gpus}"] if gpus > there else command

    def _launch(self, command: list[str]) -> subprocess.Popen[bytes]:
        home = self._directory / "home"
        home.mkdir()
        # As the container sets it.
        path = {"PYTHONPATH": f"{self._model}{os.pathsep}{self._model / 'code'}"}
        environment = {**bare_environment(home), **_ENVIRONMENT, **self._given, **path}
        with self._lock:
            if self._closed:
                raise LocalSageMakerError("The container was closed before it had started.")
            self._process = subprocess.Popen(
                command,
                cwd=self._model,
                env=environment,
                # Ends when this process does, however that happens, and then the other one does.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._process

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str], seconds: float) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=seconds)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.getheader("content-type", headers.get("accept", _JSON))
        finally:
            connection.close()

    def _say(self, line: str) -> None:
        self._last.append(line)
        self._log(line)

    def _fail(self, reason: str) -> None:
        self._log(f"ERROR: {reason}")
        self._failure = reason


def _gpus(config: Path) -> int:
    try:
        found: Any = yaml.safe_load(config.read_text(encoding="utf-8"))
        deployments = [one for application in found["applications"] for one in application.get("deployments", [])]
        gpus = 0
        for one in deployments:
            scaled = one.get("autoscaling_config", {})
            replicas = scaled.get("min_replicas", 1) if scaled else one.get("num_replicas", 1)
            gpus += int(replicas) * int(one.get("ray_actor_options", {}).get("num_gpus", 0))
        return gpus
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise LocalSageMakerError(f"{config.name} is no configuration of Ray Serve ({error!r}).") from error


def _error(status: int, message: str) -> Answer:
    return status, json.dumps({"error": message}).encode(), _JSON

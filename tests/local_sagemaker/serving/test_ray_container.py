from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

import dogbreeds
from local_sagemaker.calls import JobFailure
from local_sagemaker.serving import ray_container as inference_container
from local_sagemaker.serving.ray_container import InferenceContainer
from tests.local_sagemaker.jobs import PATIENCE_SECONDS
from tests.local_sagemaker.serving.containers import wait_for

pytestmark = pytest.mark.slow

pytest.importorskip("ray", reason="Ray Serve is not installed")

# Tells what reached it, or sleeps; loads no model, so that it is there soon.
ECHO = """
import asyncio, json, os
from ray import serve
from starlette.responses import Response


@serve.deployment
class Echo:
    async def __call__(self, request):
        body = await request.body()
        if body == b"sleep":
            await asyncio.sleep(60)
        seen = {"body": body.decode(), "path": request.url.path, "headers": dict(request.headers)}
        seen["variable"] = os.environ.get("GREETING")
        return Response(json.dumps(seen), 418, media_type="application/x-seen")


app = Echo.bind()
"""
CONFIG = yaml.safe_dump({"applications": [{"name": "echo", "route_prefix": "/", "import_path": "deployment:app"}]})
# Starts a container, and is killed.
PARENT = """
import sys, time
from pathlib import Path
from local_sagemaker.serving.ray_container import InferenceContainer

archive, directory = map(Path, sys.argv[1:])
container = InferenceContainer(archive, directory, {}, print)
container.start()
while True:
    time.sleep(1)
"""

Make = Callable[..., InferenceContainer]


def archive(path: Path, **members: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(name.replace("__", "/").replace("_", ".", 1))
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, lines: list[str]) -> Iterator[Make]:
    made: list[InferenceContainer] = []

    def start(of: Path, **environment: str) -> InferenceContainer:
        made.append(InferenceContainer(of, tmp_path / "instance", environment, lines.append))
        made[-1].start()
        return made[-1]

    yield start
    for container in made:
        container.close()
    assert not (tmp_path / "instance").exists()


def failure(container: InferenceContainer) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    with pytest.raises(JobFailure) as caught:
        while time.monotonic() < deadline:
            container.ready()
            time.sleep(0.1)
    return str(caught.value)


def session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.NoSuchProcess):
            continue
    return found


def test_an_answer_that_breaks_off_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container = InferenceContainer(tmp_path / "model.tar.gz", tmp_path / "instance", {}, print)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(container, "_port", server.getsockname()[1])

        def break_off() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

        answering = threading.Thread(target=break_off)
        answering.start()
        container._running.touch()
        assert container.ready() is False
        answering.join()
    container.close()


def test_an_archive_that_says_nowhere_what_to_serve(make: Make, tmp_path: Path, lines: list[str]) -> None:
    container = make(archive(tmp_path / "model.tar.gz", deployment_py=ECHO))
    assert "No Ray Serve application found" in failure(container)
    assert container.invoke(b"photo", {})[0] == 503
    assert any("config.yaml" in line for line in lines)


def test_a_damaged_archive(make: Make, tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"no archive")
    assert "model.tar.gz" in failure(make(tmp_path / "model.tar.gz"))


@pytest.mark.parametrize("text", ["applications: 3", "applications: [", "- a"])
def test_a_configuration_that_is_none(text: str, make: Make, tmp_path: Path) -> None:
    assert "no configuration of Ray Serve" in failure(make(archive(tmp_path / "model.tar.gz", config_yaml=text)))


def test_closed_before_it_was_there(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.tar.gz", deployment_py=ECHO, config_yaml=CONFIG)
    never = InferenceContainer(path, tmp_path / "never", {}, print)
    never.close()
    early = InferenceContainer(path, tmp_path / "early", {}, print)
    early.start()
    early.close()
    assert not (tmp_path / "early").exists()
    assert early.invoke(b"photo", {})[0] == 503


@pytest.mark.ci
def test_it_asks_as_the_adapter_does_and_ends_with_all_it_started(
    make: Make, tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {"deployment_py": ECHO, "config_yaml": CONFIG, "code__requirements_txt": "openvino"}
    started = psutil.Process().children()
    container = make(archive(tmp_path / "model.tar.gz", **members), GREETING="hello", NOBODY="x")
    assert container.ready() is False
    wait_for(container)
    (leader,) = set(psutil.Process().children()) - set(started)
    running = session(leader.pid)
    assert {*leader.children(recursive=True)} <= {*running}

    sent = {"Content-Type": "image/png", "X-Amzn-SageMaker-Custom-Attributes": "a", "Authorization": "secret"}
    status, body, kind = container.invoke(b"photo", sent)
    seen = json.loads(body)
    assert (status, kind) == (418, "application/x-seen")
    assert (seen["body"], seen["path"], seen["variable"]) == ("photo", "/", "hello")
    assert (seen["headers"]["content-type"], seen["headers"]["accept"]) == ("image/png", "application/json")
    assert seen["headers"]["x-amzn-sagemaker-custom-attributes"] == "a"
    assert "authorization" not in seen["headers"]
    monkeypatch.setattr(inference_container, "_TIMEOUT_SECONDS", 1.0)
    assert container.invoke(b"sleep", {})[0] == 504
    assert any("requirements.txt" in line for line in lines)
    assert any("Deploying new app" in line for line in lines)

    # Its first process fails: what that leaves ends too, and whoever waits is told.
    leader.kill()
    assert "ended" in failure(container)
    assert not session(leader.pid)
    assert container.invoke(b"photo", sent)[0] == 503


@pytest.mark.ci
def test_an_application_that_cannot_be_imported(make: Make, tmp_path: Path, lines: list[str]) -> None:
    path = archive(tmp_path / "model.tar.gz", deployment_py="raise ValueError('no weights')", config_yaml=CONFIG)
    container = make(path)
    assert "no weights" in failure(container)
    assert any("Traceback" in line for line in lines)


@pytest.mark.ci
def test_nothing_is_left_of_a_rehearsal_that_is_killed(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.tar.gz", deployment_py=ECHO, config_yaml=CONFIG)
    source = str(Path(dogbreeds.__file__).parents[1])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(path), str(tmp_path / "instance")],
        env={**os.environ, "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    with parent.stdout:
        # Of Ray, when its processes are there.
        assert any("Started Serve" in line for line in parent.stdout)
        (leader,) = psutil.Process(parent.pid).children()
        running = session(leader.pid)
        scratch = Path(next(word for word in leader.cmdline() if word.startswith("--directory=")).partition("=")[2])
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert len(running) > 3
    deadline = time.monotonic() + PATIENCE_SECONDS
    while session(leader.pid) or scratch.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)

"""What talks to a service: its clients, and how it is started, found and stopped as a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from filelock import FileLock

from local_sagemaker.calls import LocalSageMakerError
from local_sagemaker.faults import Faults

if TYPE_CHECKING:
    from boto3 import Session

#: Default region of clients.
REGION = "us-east-1"
#: Name of the role that jobs can assume.
ROLE = "local-sagemaker"
#: Held by the service of a directory.
LOCK = "lock"
#: Says where the service of a directory answers, and what key it wants.
ADDRESS = "service.json"
#: The environment that jobs run in, whatever its Python was called by.
PYTHON = sysconfig.get_path("purelib")
#: What a service in the background has said.
LOG = "service.log"
#: Where each command that uses the service has a file, by its process id.
CLIENTS = "clients"
#: Where this asks whether a service is up, and sets its faults.
CONTROL = "/_local_sagemaker"
_COMMAND = ("-m", "local_sagemaker")
_STARTUP_SECONDS = 60.0
_STOP_SECONDS = 30.0
# They outlive this process, which is to leave them alone.
_BACKGROUND: list[subprocess.Popen[bytes]] = []


class Client:
    """Reaches a service by its address, `url`, and with the key that it made, `key`."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url, key

    def session(self, region: str = REGION) -> Session:
        """Returns a boto3 session; its clients send everything to the service, and nothing to a proxy."""
        import boto3
        from botocore.config import Config
        from botocore.session import Session

        url = self.url

        # Botocore has no types.
        class Local(Session):  # type: ignore[misc]
            def create_client(self, *arguments: Any, **options: Any) -> Any:
                own = Config(proxies={})
                given = options.get("config")
                options["config"] = own if given is None else given.merge(own)
                options["endpoint_url"] = options.get("endpoint_url") or url
                return super().create_client(*arguments, **options)

            def get_scoped_config(self) -> dict[str, Any]:
                # Nothing of the person's own configuration.
                return {}

        core = Local()
        core.register_component("data_loader", _service_models())
        core.set_config_variable("region", region)
        core.set_credentials(self.key, self.key)
        return boto3.Session(botocore_session=core)

    def client(self, service: str, region: str = REGION, config: Any = None) -> Any:
        """Returns a boto3 client, such as `client("sagemaker")`."""
        return self.session(region).client(service, config=config)

    @property
    def role_arn(self) -> str:
        """The role that jobs can assume; other roles that IAM is given serve as well."""
        return str(self.client("iam").get_role(RoleName=ROLE)["Role"]["Arn"])

    def set_faults(self, faults: Faults) -> None:
        """Lets other things go wrong from now on; jobs that run keep theirs."""
        self._control("PUT", json.dumps(asdict(faults)).encode())

    def process(self) -> int | None:
        """Returns the id of the process that answers, or None; raises TimeoutError where it is stuck."""
        try:
            return int(self._control("GET", None)["pid"])
        except TimeoutError:
            raise
        except (OSError, HTTPException, ValueError, KeyError, TypeError):
            return None

    def _control(self, method: str, body: bytes | None) -> Any:
        scope = f"AWS4-HMAC-SHA256 Credential={self.key}/0/{REGION}/control/aws4_request"
        request = urllib.request.Request(self.url + CONTROL, body, {"Authorization": scope}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_STARTUP_SECONDS) as answer:
            return json.load(answer)


@cache
def _service_models() -> Any:
    """Botocore's models of AWS's services, megabytes of JSON each: read once for all sessions."""
    from botocore.loaders import create_loader

    return create_loader()


def connect(directory: Path, faults: Faults, idle_minutes: float) -> Client:
    """Returns the client of a directory's service; one that is not up is started, and ends after so much idle time.

    Raises:
        LocalSageMakerError: It cannot be started.
    """
    directory = directory.resolve()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / CLIENTS).mkdir(exist_ok=True)
        (directory / CLIENTS / str(os.getpid())).touch()
    except OSError as error:
        raise LocalSageMakerError(f"{directory} cannot be used: {error.strerror}.") from error
    with FileLock(directory / "starting.lock"):
        client = _found(directory) or _started(directory, idle_minutes)
    client.set_faults(faults)
    return client


def running() -> Iterator[tuple[int, Path]]:
    """Yields process id and directory of this user's services that are processes of their own."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == os.getuid() and tuple(process.cmdline()[1:3]) == _COMMAND:
                for file in map(Path, (one.path for one in process.open_files())):
                    if file.name == LOCK:
                        yield process.pid, file.parent


def stop(directory: Path) -> bool:
    """Ends a directory's service with all that it runs; says whether there was one."""
    found = [pid for pid, place in running() if place == directory.resolve()]
    for pid in found:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            process.terminate()
            deadline = time.monotonic() + _STOP_SECONDS
            # Where the process that started it is still there, it stays as a zombie.
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > deadline:
                    process.kill()
                time.sleep(0.05)
    _BACKGROUND[:] = [one for one in _BACKGROUND if one.poll() is None]
    return bool(found)


def _found(directory: Path) -> Client | None:
    """Returns the client of a service that is up."""
    try:
        known = json.loads((directory / ADDRESS).read_text(encoding="utf-8"))
        client, process = Client(known["url"], known["key"]), int(known["pid"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    end = f"End it first: {sys.executable} -m local_sagemaker --stop --directory {shlex.quote(str(directory))}"
    try:
        if client.process() != process:
            return None
    except TimeoutError as error:
        raise LocalSageMakerError(f"The service of {directory} does not answer. {end}") from error
    if known["python"] != PYTHON:
        raise LocalSageMakerError(f"The service of {directory} runs jobs with the packages of {known['python']}. {end}")
    return client


def _started(directory: Path, idle_minutes: float) -> Client:
    options = ["--quiet", "--directory", str(directory), "--idle-minutes", str(idle_minutes)]
    command = [sys.executable, *_COMMAND, *options]
    with (directory / LOG).open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + _STARTUP_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if (client := _found(directory)) is not None:
            _BACKGROUND.append(process)
            return client
        time.sleep(0.05)
    process.kill()
    process.wait()
    said = (directory / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise LocalSageMakerError(f"The local service did not start: {said[-1] if said else 'it said nothing'}")

"""The container of an endpoint: its interface, and when it is started and ended."""

import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from local_sagemaker.calls import Answer, JobFailure, Members
from local_sagemaker.context import Context

#: Seconds that a container has for its first answer to /ping, unless the request says: what AWS leaves it.
STARTUP_SECONDS = 600
_TICK_SECONDS = 0.1


class Container(Protocol):
    """A server with a model, in processes of its own.

    `ready` tells whether it answers, and raises JobFailure once it has died; `invoke` hands a request on.
    """

    def start(self) -> None: ...
    def ready(self) -> bool: ...
    def invoke(self, body: bytes, headers: Mapping[str, str]) -> Answer: ...
    def close(self) -> None: ...


#: Makes a container of a model archive, a directory of its own, its variables, and what takes lines of its log.
MakeContainer = Callable[[Path, Path, Mapping[str, str], Callable[[str], None]], Container]


class Unready(Exception):
    """A container that did not start within the time of an invocation."""


class ServedVariant:
    """The only variant of an endpoint configuration; its container starts when it is first needed."""

    def __init__(self, endpoint: str, variant: Members, model: Members, context: Context, make: MakeContainer) -> None:
        self.variant, self._model = variant, model
        self._context, self._make = context, make
        instance = f"i-{uuid.uuid4().hex[:17]}"
        self._directory = context.machines / f"{endpoint}-{instance}"
        self.stream = context.logs.open_endpoint(endpoint, f"{variant['VariantName']}/{instance}")
        self._starting: Future[Container] | None = None
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="container")
        self._lock = threading.Lock()
        self._closing = threading.Event()
        #: As many as may ask it at once.
        self.turns = threading.Semaphore(variant.get("ServerlessConfig", {}).get("MaxConcurrency", sys.maxsize))

    def start(self) -> None:
        """Starts the container, and waits until it answers; raises JobFailure where it does not."""
        self._begun().result()

    def invoke(self, body: bytes, headers: Mapping[str, str], patience: float) -> Answer:
        """Hands a request on; waits for a container that is being started."""
        try:
            container = self._begun().result(patience)
            return container.invoke(body, headers)
        except TimeoutError as error:
            raise Unready from error

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            starting = self._starting
        if starting is not None and starting.exception() is None:
            starting.result().close()
        self._starter.shutdown()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _begun(self) -> Future[Container]:
        with self._lock:
            self._starting = self._starting or self._starter.submit(self._started)
            return self._starting

    def _started(self) -> Container:
        container = self._model["PrimaryContainer"]
        archive = self._context.objects.find(container["ModelDataUrl"])
        if archive is None:
            raise JobFailure(f"Failed to download model data: there is no object {container['ModelDataUrl']}.")
        self._directory.mkdir(parents=True, exist_ok=True)
        packed = self._directory / "model.tar.gz"
        packed.write_bytes(archive)
        made = self._make(packed, self._directory, container.get("Environment", {}), self.stream.add)
        made.start()
        try:
            self._await(made)
        except BaseException:
            made.close()
            raise
        return made

    def _await(self, container: Container) -> None:
        seconds = self.variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_SECONDS)
        deadline = time.monotonic() + seconds
        name = self.variant["VariantName"]
        unhealthy = f"The primary container for production variant {name} did not pass the ping health check."
        while True:
            try:
                if container.ready():
                    return
            except JobFailure as failure:
                raise JobFailure(f"{unhealthy} {failure}") from failure
            if self._closing.wait(_TICK_SECONDS):
                raise JobFailure("The endpoint ended while its container was starting.")
            if time.monotonic() > deadline:
                raise JobFailure(f"{unhealthy} It had {seconds} s. The CloudWatch logs of this endpoint say more.")

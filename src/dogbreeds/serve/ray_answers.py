"""How a replica of the Ray Serve application answers requests: their limits, their paths, batches of their photos.

It listens at / and, as other servers of a package do, at /invocations and /ping.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from dogbreeds.data.images import UnreadableImageError
from dogbreeds.package.messages import JSON, Ranked, Refused, answer_to, check_accept, question_of
from dogbreeds.package.predictor import Handler
from dogbreeds.serve.receiving import ClientGoneError, received

log = logging.getLogger(__name__)

Answer = list[Ranked] | UnreadableImageError

_METHODS = {"/": "GET, HEAD, POST", "/ping": "GET, HEAD", "/invocations": "POST"}
_READY = b'{"status":"ready"}'


@dataclass(frozen=True)
class ReplicaLimits:
    """The `user_config` of the deployment, where their defaults are; it can change while replicas run.

    Attributes:
        body_bytes: Of one request; what SageMaker lets through.
        photos: Of one request.
        pixels: Of one photo.
        open_photos: Accepted and not answered yet, by one replica.
        receive_seconds: From the start of a request to the end of its body.
        answer_seconds: From there to its answer; SageMaker waits for 60. A batch that takes longer is stuck.
        batch_wait_seconds: How long a photo waits for others where the engine computes several at once.
    """

    body_bytes: int
    photos: int
    pixels: int
    open_photos: int
    receive_seconds: float
    answer_seconds: float
    batch_wait_seconds: float


class Answers:
    """A loaded package behind HTTP. Photos are decoded and computed in threads, as many as the engine likes."""

    def __init__(self, package: Path) -> None:
        """Starts the engine of a package, and has it compute something, so that the first client need not wait.

        Raises:
            PackageError: There is no package, or it is damaged.
        """
        self._handler = Handler.load(package)
        engine = self._handler.engine
        # Lanes are threads that compute side by side; in plain torch they take turns, each with all cores.
        torch.set_num_threads(engine.workers if engine.name == "torch" else 1)
        self._handler.warm_up()
        self._threads = ThreadPoolExecutor(engine.workers, "lane")
        batched = serve.batch(max_batch_size=engine.batch_size, max_concurrent_batches=engine.workers)
        self._batched: Any = batched(self._in_a_lane)
        self._open_photos = 0
        self._began: dict[int, float] = {}
        self._limits: ReplicaLimits | None = None

    def limit(self, limits: ReplicaLimits) -> None:
        """Takes other limits, which hold for requests to come."""
        self._limits = limits
        Image.MAX_IMAGE_PIXELS = limits.pixels
        alone = self._handler.engine.batch_size == 1
        self._batched.set_batch_wait_timeout_s(0.0 if alone else limits.batch_wait_seconds)

    def check_health(self) -> None:
        """Says when a lane is stuck, or nobody has set limits.

        Raises:
            RuntimeError: A batch takes longer than any answer may, or config.yaml has no user_config.
        """
        if self._limits is None:
            raise RuntimeError("config.yaml gives this deployment no user_config.")
        oldest = min(list(self._began.values()), default=math.inf)
        if time.monotonic() - oldest > self._limits.answer_seconds:
            raise RuntimeError(f"A batch has taken more than {self._limits.answer_seconds:g} seconds.")

    async def __call__(self, request: Request) -> Response:
        """Answers a request, or says why not."""
        try:
            return await self._respond(request)
        except Refused as refused:
            return _refusal(refused)
        except ClientGoneError:
            return Response(status_code=400)
        except Exception:
            # Ray would send the traceback.
            log.exception("A request failed.")
            return _refusal(Refused(500, "failed", "The request failed; the log of the server says why."))

    async def _respond(self, request: Request) -> Response:
        path = request.scope["path"]
        if path not in _METHODS:
            raise Refused(404, "not_found", f"There is nothing at {path}: POST a photo to /invocations.")
        if request.method not in _METHODS[path].split(", "):
            raise Refused(405, "wrong_method", f"{path} takes {_METHODS[path]}.")
        if request.method != "POST":
            return Response(_READY, media_type=JSON)
        accept = request.headers.get("accept", "")
        check_accept(accept)
        limits = self._limits
        if limits is None:
            raise Refused(503, "loading", "There are no limits yet: config.yaml has them as user_config.")
        said = request.headers.get("content-length", "")
        announced = int(said) if said.isdecimal() else 0
        body = await received(announced, request.receive, limits.body_bytes, limits.receive_seconds)
        question = question_of(body, request.headers.get("content-type", ""), limits.photos)
        answers = await self._answers(question.photos, limits)
        content, kind = answer_to(question.ranked(answers), accept, many=question.many)
        return Response(content, headers={"Content-Type": kind})

    async def _answers(self, photos: tuple[bytes, ...], limits: ReplicaLimits) -> list[Answer]:
        if self._open_photos + len(photos) > limits.open_photos:
            raise Refused(503, "busy", f"{self._open_photos} photos are being answered: try again later.")
        self._open_photos += len(photos)
        try:
            async with asyncio.timeout(limits.answer_seconds):
                return list(await asyncio.gather(*map(self._batched, photos)))
        except TimeoutError as error:
            message = f"There was no answer in {limits.answer_seconds:g} s: try again later."
            raise Refused(503, "busy", message) from error
        finally:
            self._open_photos -= len(photos)

    async def _in_a_lane(self, photos: list[bytes]) -> list[Answer]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._compute, photos)

    def _compute(self, photos: list[bytes]) -> list[Answer]:
        lane = threading.get_ident()
        self._began[lane] = time.monotonic()
        try:
            return self._handler.answers(photos)
        finally:
            del self._began[lane]


def _refusal(refused: Refused) -> Response:
    # Seconds in which a replica answers about as many photos as it takes.
    again = {"Retry-After": "1"} if refused.status == 503 else {}
    return Response(refused.body(), refused.status, again, media_type=JSON)

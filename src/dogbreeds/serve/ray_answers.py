"""How a replica of the Ray Serve application answers requests: their limits, their paths, batches of their photos.

It listens at / and, as other servers of a package do, at /invocations and /ping.
"""

from __future__ import annotations

import asyncio
import io
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
from dogbreeds.serve.handler import Handler
from dogbreeds.serve.messages import JSON, Ranked, Refused, answer_to, check_accept, question_of

log = logging.getLogger(__name__)

Answer = list[Ranked] | UnreadableImageError

_METHODS = {"/": "GET, HEAD, POST", "/ping": "GET, HEAD", "/invocations": "POST"}
_READY = b'{"status":"ready"}'


@dataclass(frozen=True)
class Limits:
    """The `user_config` of the deployment; it can change while replicas run.

    Attributes:
        body_bytes: Of one request; what SageMaker lets through.
        photos: Of one request.
        pixels: Of one photo.
        open_photos: Accepted and not answered yet, by one replica.
        receive_seconds: From the start of a request to the end of its body.
        answer_seconds: From there to its answer; SageMaker waits for 60. A batch that takes longer is stuck.
        batch_wait_seconds: How long a photo waits for others where the engine computes several at once.
    """

    body_bytes: int = 6_291_456
    photos: int = 64
    pixels: int = 50_000_000
    open_photos: int = 128
    receive_seconds: float = 20.0
    answer_seconds: float = 50.0
    batch_wait_seconds: float = 0.01


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
        torch.set_num_threads(engine.lanes if engine.name == "torch" else 1)
        self._handler.answers([_blank()])
        self._threads = ThreadPoolExecutor(engine.lanes, "lane")
        batched = serve.batch(max_batch_size=engine.batch_size, max_concurrent_batches=engine.lanes)
        self._batched: Any = batched(self._in_a_lane)
        self._open_photos = 0
        self._began: dict[int, float] = {}
        self._limits = Limits()
        self.limit(self._limits)

    def limit(self, limits: Limits) -> None:
        """Takes other limits, which hold for requests to come."""
        self._limits = limits
        Image.MAX_IMAGE_PIXELS = self._limits.pixels
        alone = self._handler.engine.batch_size == 1
        self._batched.set_batch_wait_timeout_s(0.0 if alone else self._limits.batch_wait_seconds)

    def check_health(self) -> None:
        """Says when a lane is stuck.

        Raises:
            RuntimeError: A batch takes longer than any answer may.
        """
        oldest = min(list(self._began.values()), default=math.inf)
        if time.monotonic() - oldest > self._limits.answer_seconds:
            raise RuntimeError(f"A batch has taken more than {self._limits.answer_seconds:g} seconds.")

    async def __call__(self, request: Request) -> Response:
        """Answers a request, or says why not."""
        try:
            return await self._respond(request)
        except Refused as refused:
            return _refusal(refused)
        except Exception:
            # Ray would send the traceback.
            log.exception("A request failed.")
            return _refusal(Refused(500, "failed", "The request failed; the log of the server says why."))

    async def _respond(self, request: Request) -> Response:
        path = request.scope["path"]
        if path not in _METHODS:
            raise Refused(404, "not_found", f"There is nothing at {path}: POST a photo to /invocations.")
        if request.method not in _METHODS[path].split(", "):
            raise Refused(405, "method_not_allowed", f"{path} takes {_METHODS[path]}.")
        if request.method != "POST":
            return Response(_READY, media_type=JSON)
        accept = request.headers.get("accept", "")
        check_accept(accept)
        body = await self._body(request)
        question = question_of(body, request.headers.get("content-type", ""), self._limits.photos)
        answers = await self._answers(question.photos)
        content, kind = answer_to(question.ranked(answers), accept, many=question.many)
        return Response(content, headers={"Content-Type": kind})

    async def _body(self, request: Request) -> bytes:
        most = self._limits.body_bytes
        too_large = Refused(413, "too_large", f"The request has more than {most} bytes.")
        said = request.headers.get("content-length", "")
        if said.isdecimal() and int(said) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.receive_seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise too_large
        except TimeoutError as error:
            raise Refused(408, "too_slow", f"Nothing whole came in {self._limits.receive_seconds:g} s.") from error
        return bytes(body)

    async def _answers(self, photos: tuple[bytes, ...]) -> list[Answer]:
        if self._open_photos + len(photos) > self._limits.open_photos:
            raise Refused(503, "busy", f"{self._open_photos} photos are being answered: try again later.")
        self._open_photos += len(photos)
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                return list(await asyncio.gather(*map(self._batched, photos)))
        except TimeoutError as error:
            message = f"There was no answer in {self._limits.answer_seconds:g} s: try again later."
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


def _blank() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    return file.getvalue()

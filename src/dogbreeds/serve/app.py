"""The HTTP application: the container contract, metrics, and the page with what it shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dogbreeds.package.examples import DIRECTORY, load_examples
from dogbreeds.package.messages import JSON, Refused, answer_to, check_accept, question_of
from dogbreeds.package.predictor import Handler
from dogbreeds.schema import Limits
from dogbreeds.serve import metrics as measured
from dogbreeds.serve.batching import Answer, Batcher
from dogbreeds.serve.card import card
from dogbreeds.serve.edge import INVOCATIONS, Edge
from dogbreeds.serve.intake import Intake
from dogbreeds.serve.metrics import Metrics
from dogbreeds.serve.receiving import ClientGoneError

_PAGE = Path(__file__).parent / "page"
_WORDS = {404: ("not_found", "There is nothing at {path}."), 405: ("wrong_method", "{path} does not take {method}.")}


class Application:
    """An ASGI application around one handler.

    Attributes:
        metrics: What is counted.
        batcher: What computes.
        stopping: Whether the server ends when what is open is answered, of which `/ping` tells.
    """

    def __init__(self, handler: Handler, package: Path, limits: Limits) -> None:
        """Puts the routes together; the engine starts with the application's lifespan.

        Args:
            handler: Answers for photos.
            package: Its directory, which may hold example photos.
            limits: What is taken from clients.

        Raises:
            PackageError: The list of example photos is damaged.
        """
        self.stopping = False
        self.metrics = Metrics(handler.description)
        self.batcher = Batcher(
            handler,
            most_waiting=limits.waiting,
            patience=limits.answer_seconds,
            on_batch=self.metrics.batches.observe,
        )
        self.metrics.gauge("waiting_photos", "Photos that wait for a lane.", lambda: self.batcher.waiting)
        self.metrics.gauge("busy_lanes", "Lanes that compute.", lambda: self.batcher.busy)
        intake = Intake(limits)
        self.metrics.gauge("held_bytes", "Bytes of the bodies of open requests.", lambda: intake.held)
        invocations = _Invocations(self.batcher, intake, self.metrics, limits)
        routes = [
            Route(INVOCATIONS, invocations, methods=["POST"]),
            Route("/ping", self._ping),
            Route("/metrics", self._metrics),
            Route("/card", _json(lambda: _card(handler, self.batcher))),
            *_examples(package),
            *_page(),
        ]
        inner = Starlette(
            routes=routes,
            exception_handlers={HTTPException: _http_error, Refused: self._refused, Exception: _internal_error},
            lifespan=self._lifespan,
        )
        # /ping/ is no route, and a redirect has no JSON.
        inner.router.redirect_slashes = False
        # Most requests of a busy server are of this kind, and need no router.
        direct = ServerErrorMiddleware(invocations, _internal_error)

        async def dispatched(scope: Scope, receive: Receive, send: Send) -> None:
            asked = scope["type"] == "http" and scope["path"] == INVOCATIONS and scope["method"] == "POST"
            await (direct if asked else inner)(scope, receive, send)

        self._app = Edge(dispatched, self.metrics, frozenset(route.path for route in routes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await self._app(scope, receive, send)

    def on_refusal(self, status: int) -> None:
        """Counts an answer that was given before there was a request to look at."""
        self.metrics.requests.labels("none", str(status)).inc()

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.batcher.start()
        yield
        await asyncio.to_thread(self.batcher.close)

    async def _ping(self, _: Request) -> Response:
        refused = Refused(503, "draining", "The server is stopping.") if self.stopping else self.batcher.condition
        if refused is not None:
            raise refused
        return JSONResponse({"status": "ready"})

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type=measured.CONTENT_TYPE)

    async def _refused(self, _: Request, refused: Exception) -> Response:
        assert isinstance(refused, Refused)
        return _answer(refused, self.batcher.retry_after)


class _Invocations:
    """`POST /invocations`, as plain ASGI: most of a busy server's requests are here."""

    def __init__(self, batcher: Batcher, intake: Intake, metrics: Metrics, limits: Limits) -> None:
        self._batcher, self._intake, self._metrics, self._limits = batcher, intake, metrics, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        client = scope["client"][0] if scope["client"] else ""
        accept = headers.get(b"accept", "")
        try:
            refused = self._batcher.condition
            if refused is not None:
                raise refused
            check_accept(accept)
            with self._intake.request(client) as body:
                content = await body.read(int(headers.get(b"content-length", 0)), receive)
                question = question_of(content, headers.get(b"content-type", ""), self._limits.photos)
                ranked = question.ranked(await self._answers(question.photos, receive))
            self._metrics.photos.inc(len(ranked))
            content, kind = answer_to(ranked, accept, many=question.many)
        except ClientGoneError:
            return
        except Refused as refused:
            await _answer(refused, self._batcher.retry_after)(scope, receive, send)
            return
        head = [
            (b"content-type", kind.encode()),
            (b"content-length", b"%d" % len(content)),
            (b"server-timing", b"total;dur=%.1f" % (1000 * (time.perf_counter() - began))),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": content})

    async def _answers(self, photos: tuple[bytes, ...], receive: Receive) -> list[Answer]:
        """Waits for the answers, but no longer than the limit, nor than there is a client."""
        future = self._batcher.submit(photos)
        loop = asyncio.get_running_loop()
        patience = loop.call_later(self._limits.answer_seconds, self._give_up, future)
        watch = loop.create_task(_until_gone(receive))
        watch.add_done_callback(lambda _: future.cancel())
        try:
            return await future
        except asyncio.CancelledError:
            if watch.done():
                raise ClientGoneError from None
            raise
        finally:
            patience.cancel()
            watch.cancel()

    def _give_up(self, future: asyncio.Future[list[Answer]]) -> None:
        if not future.done():
            seconds = self._limits.answer_seconds
            future.set_exception(Refused(503, "busy", f"There was no answer within {seconds:g} seconds."))


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _answer(refused: Refused, retry_after: int) -> Response:
    headers = {"retry-after": str(retry_after)} if refused.status in (429, 503) else None
    return Response(refused.body(), refused.status, headers, media_type=JSON)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, message = _WORDS.get(error.status_code, ("refused", error.detail))
    refused = Refused(error.status_code, code, message.format(path=request.url.path, method=request.method))
    return Response(refused.body(), refused.status, error.headers, media_type=JSON)


async def _internal_error(_: Request, __: Exception) -> Response:
    # Starlette raises it once more, and uvicorn logs the traceback.
    return _answer(Refused(500, "failed", "Something went wrong; the server's log says what."), retry_after=1)


def _json(value: Callable[[], object]) -> Callable[[Request], object]:
    async def endpoint(_: Request) -> Response:
        return JSONResponse(value())

    return endpoint


def _card(handler: Handler, batcher: Batcher) -> dict[str, object]:
    # Asking for the engine would wait for its start.
    return card(handler.description, handler.engine.name if batcher.condition is None else None)


def _file(path: Path) -> Callable[[Request], object]:
    async def endpoint(_: Request) -> Response:
        return FileResponse(path, headers={"cache-control": "no-cache"})

    return endpoint


def _examples(package: Path) -> list[Route]:
    """The photos that a package carries, each at its name, and the list of them.

    Raises:
        PackageError: Their list is damaged.
    """
    examples = load_examples(package)
    listed = [{"name": example.file, "breed": example.breed} for example in examples]
    files = {example.file: package / DIRECTORY / example.file for example in examples}
    return [
        Route("/examples", _json(lambda: listed)),
        *(Route(f"/examples/{name}", _file(path)) for name, path in files.items()),
    ]


def _page() -> list[Route]:
    files = {path.relative_to(_PAGE).as_posix(): path for path in _PAGE.rglob("*") if path.is_file()}
    return [Route("/", _file(files["index.html"])), *(Route(f"/{name}", _file(path)) for name, path in files.items())]

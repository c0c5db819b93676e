"""The ASGI application that answers photos, on this machine and under Ray Serve alike."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from dogbreeds.limits import RequestLimits
from dogbreeds.package.messages import JSON, HttpError, PredictRequest, accepted, format_response, parse_request
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve.batching import Batcher
from dogbreeds.serve.bodies import ClientGoneError, OpenRequests
from dogbreeds.serve.middleware import INVOCATIONS, Middleware, Observer

log = logging.getLogger(__name__)

#: Makes of a request, and of what the client accepts, the body of the response and its content type.
Reply = Callable[[PredictRequest, str], Coroutine[None, None, tuple[bytes, str]]]
_ERRORS = {404: ("not_found", "There is nothing at {path}."), 405: ("wrong_method", "{path} does not take {method}.")}


class Application:
    """An ASGI application around one predictor."""

    def __init__(
        self,
        predictor: Predictor,
        limits: RequestLimits,
        *,
        routes: Sequence[BaseRoute] = (),
        answers: Sequence[tuple[str, Reply]] = (),
        observer: Observer | None = None,
        wait_for_engine: bool = False,
    ) -> None:
        """Puts `routes`, and `answers` to photos, beside /invocations; requests may have to `wait_for_engine`."""
        observer = self._observer = observer or Observer()
        self.batcher = Batcher(predictor, limits.waiting, limits.answer_seconds, on_batch=observer.batch)
        self.requests = OpenRequests(limits)
        self._wait_for_engine = wait_for_engine
        answered = *((path, self._predict) for path in INVOCATIONS), *answers
        self._photos = {path: _Photos(self.batcher, self.requests, limits, answer) for path, answer in answered}
        self._router = Starlette(
            routes=[
                Route("/ping", self._ping),
                *routes,
                # Requests of other methods end here; `_dispatch` takes the rest past the router.
                *(Route(path, one, methods=["POST"]) for path, one in self._photos.items()),
            ],
            exception_handlers={HTTPException: _http_error, HttpError: self._refused, Exception: _internal_error},
            lifespan=self._lifespan,
        )
        # /ping/ is not a route, and a redirect is not JSON.
        self._router.router.redirect_slashes = False
        self._middleware = Middleware(self._dispatch, observer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._middleware(scope, receive, send)

    def stop(self) -> None:
        """Says by `/ping` that the server is stopping, and closes each connection after its response."""
        self._middleware.stopping = True

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A busy server spends a tenth of its time in the router otherwise.
        direct = scope["type"] == "http" and scope["path"] in self._photos and scope["method"] == "POST"
        await (self._photos[scope["path"]] if direct else self._router)(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        starting = self.batcher.start()
        if self._wait_for_engine:
            await asyncio.to_thread(starting.join)
            if (error := self.batcher.unavailable) is not None:
                raise error
        yield
        await asyncio.to_thread(self.batcher.close)

    async def _ping(self, _: Request) -> Response:
        if self._middleware.stopping:
            raise HttpError(503, "draining", "The server is stopping.")
        if (error := self.batcher.unavailable) is not None:
            raise error
        return JSONResponse({"status": "ready"})

    async def _predict(self, request: PredictRequest, accept: str) -> tuple[bytes, str]:
        # A response that the client does not accept is not computed.
        accepted(accept)
        predictions = request.predictions(await self.batcher.submit(request.photos))
        self._observer.photos(len(predictions), sum(one.known is False for one in predictions))
        return format_response(predictions, accept, many=request.many)

    async def _refused(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HttpError)
        return error_response(error, self.batcher.retry_after)


class _Photos:
    """A path that takes photos, as plain ASGI, because most requests of a busy server come to `/invocations`."""

    def __init__(self, batcher: Batcher, requests: OpenRequests, limits: RequestLimits, answer: Reply) -> None:
        self._batcher, self._requests, self._limits, self._answer = batcher, requests, limits, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        try:
            content, kind = await self._respond(scope, receive)
        except ClientGoneError:
            return
        except HttpError as error:
            await error_response(error, self._batcher.retry_after)(scope, receive, send)
            return
        except Exception:
            log.exception("A request failed.")
            await _failed()(scope, receive, send)
            return
        head = [
            (b"content-type", kind.encode()),
            (b"content-length", b"%d" % len(content)),
            (b"server-timing", b"total;dur=%.1f" % (1000 * (time.perf_counter() - began))),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": content})

    async def _respond(self, scope: Scope, receive: Receive) -> tuple[bytes, str]:
        if (error := self._batcher.unavailable) is not None:
            raise error
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        accept, length = headers.get(b"accept", ""), headers.get(b"content-length", "")
        with self._requests.admit(scope["client"][0] if scope["client"] else "") as body:
            content = await body.read(int(length) if length.isdecimal() else 0, receive)
            request = parse_request(content, headers.get(b"content-type", ""), self._limits.photos, self._limits.pixels)
            return await self._waited(asyncio.create_task(self._answer(request, accept)), receive)

    async def _waited(self, answer: asyncio.Task[tuple[bytes, str]], receive: Receive) -> tuple[bytes, str]:
        """Waits for an answer, until the limit is reached or the client is gone."""
        seconds, watch = self._limits.answer_seconds, asyncio.create_task(_until_gone(receive))
        watch.add_done_callback(lambda _: answer.cancel())
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise HttpError(503, "busy", f"No result within {seconds:g} seconds: try again later.") from None
        except asyncio.CancelledError:
            if watch.done():
                raise ClientGoneError from None
            raise
        finally:
            watch.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def error_response(error: HttpError, retry_after: int) -> Response:
    headers = {"retry-after": str(retry_after)} if error.status in (429, 503) else None
    return Response(error.body(), error.status, headers, media_type=JSON)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, message = _ERRORS.get(error.status_code, ("refused", error.detail))
    refused = HttpError(error.status_code, code, message.format(path=request.url.path, method=request.method))
    return Response(refused.body(), refused.status, error.headers, media_type=JSON)


async def _internal_error(_: Request, __: Exception) -> Response:
    # Starlette raises it once more, and the server logs the traceback.
    return _failed()


def _failed() -> Response:
    return error_response(HttpError(500, "failed", "The request failed; see the server's log."), retry_after=1)

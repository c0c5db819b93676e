"""What a server on this machine offers beside predictions: the page, the model card, example photos, metrics."""

from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from dogbreeds.limits import Limits
from dogbreeds.package.examples import DIRECTORY, load_examples
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve.app import Application
from dogbreeds.serve.card import card
from dogbreeds.serve.metrics import CONTENT_TYPE, Metrics
from dogbreeds.serve.middleware import INVOCATIONS

_PAGE = Path(__file__).parent / "page"


def application(predictor: Predictor, package: Path, limits: Limits) -> Application:
    """Returns the application of `scripts/serve.py`."""

    async def read_metrics(_: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    async def read_card(_: Request) -> Response:
        # Before the engine has started, its name would have to wait.
        engine = predictor.engine.name if app.batcher.unavailable is None else None
        return JSONResponse(card(predictor.description, engine))

    routes = [Route("/metrics", read_metrics), Route("/card", read_card), *_examples(package), *_page()]
    metrics = Metrics(predictor.description, frozenset({"/ping", *INVOCATIONS, *(route.path for route in routes)}))
    app = Application(predictor, limits, routes=routes, observer=metrics)
    metrics.gauge("waiting_photos", "Photos in the queue.", lambda: app.batcher.waiting)
    metrics.gauge("busy_lanes", "Workers that compute.", lambda: app.batcher.busy)
    metrics.gauge("held_bytes", "Bytes of the bodies of open requests.", lambda: app.requests.held)
    return app


def _file(path: Path) -> Callable[[Request], object]:
    async def endpoint(_: Request) -> Response:
        return FileResponse(path, headers={"cache-control": "no-cache"})

    return endpoint


def _examples(package: Path) -> list[Route]:
    examples = load_examples(package)
    listed = [{"name": example.file, "breed": example.breed} for example in examples]

    async def read_list(_: Request) -> Response:
        return JSONResponse(listed)

    files = (Route(f"/examples/{one.file}", _file(package / DIRECTORY / one.file)) for one in examples)
    return [Route("/examples", read_list), *files]


def _page() -> list[Route]:
    files = {path.relative_to(_PAGE).as_posix(): path for path in _PAGE.rglob("*") if path.is_file()}
    return [Route("/", _file(files["index.html"])), *(Route(f"/{name}", _file(path)) for name, path in files.items())]

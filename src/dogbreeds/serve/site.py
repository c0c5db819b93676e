"""What a server on this machine offers beside predictions: the page, the model card, example photos, metrics."""

import asyncio
import math
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template
from typing import Any

from markdown_it import MarkdownIt
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from dogbreeds.data.names import shown_names
from dogbreeds.errors import ConfigError
from dogbreeds.limits import Limits
from dogbreeds.model.names import README
from dogbreeds.package.examples import DIRECTORY, load_examples
from dogbreeds.package.explanation import Explainer
from dogbreeds.package.messages import HttpError, PredictRequest
from dogbreeds.package.package import Description
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve.app import Application
from dogbreeds.serve.metrics import Metrics
from dogbreeds.serve.middleware import INVOCATIONS

_PAGE = Path(__file__).parent / "page"
_MODEL_CARD = Path(__file__).with_name("model_card.html")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_SAME = ("backbone", "pretrained", "weights", "licence", "unfreeze", "temperature", "made")
_SCORES = ("accuracy", "top5_accuracy", "macro_f1", "loss", "calibration_error", "calibration_error_uncalibrated")


def application(predictor: Predictor, package: Path, limits: Limits) -> Application:
    """Returns the application of `scripts/serve.py`."""

    async def read_metrics(_: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def read_card(_: Request) -> Response:
        # Before the engine has started, its name would have to wait.
        engine = predictor.engine.name if app.batcher.unavailable is None else None
        return JSONResponse(card(predictor.description, engine, maps=bool(answers)) | {"readme": bool(readme)})

    async def explain(request: PredictRequest, _: str) -> tuple[bytes, str]:
        if request.many:
            raise HttpError(400, "several_photos", 'Send one photo: its bytes, or {"image": <base64>}.')
        (answer,) = request.predictions(await app.batcher.submit(request.photos))
        drawn = worker.submit(explainer.picture, request.photos[0], answer.top[0].index)
        return await asyncio.wrap_future(drawn), "image/jpeg"

    try:
        # One photo is drawn at a time, so that predictions keep the processor.
        explainer, worker, answers = Explainer(predictor), ThreadPoolExecutor(1), [("/explain", explain)]
    except ConfigError:
        answers = []
    readme = _readme(package)
    routes = [Route("/metrics", read_metrics), Route("/card", read_card), *readme, *_examples(package), *_page()]
    known = {"/ping", "/explain", *INVOCATIONS, *(route.path for route in routes)}
    metrics = Metrics(predictor.description, frozenset(known))
    app = Application(predictor, limits, routes=routes, answers=answers, observer=metrics)
    metrics.gauge("waiting_photos", "Photos in the queue.", lambda: app.batcher.waiting)
    metrics.gauge("busy_lanes", "Workers that compute.", lambda: app.batcher.busy)
    metrics.gauge("held_bytes", "Bytes of the bodies of open requests.", lambda: app.requests.held)
    return app


def _file(path: Path) -> Callable[[Request], object]:
    async def endpoint(_: Request) -> Response:
        return FileResponse(path, headers={"cache-control": "no-cache"})

    return endpoint


def _readme(package: Path) -> list[Route]:
    """Returns the page of the model card; none for a package without it."""
    path = package / README
    if not path.is_file():
        return []
    text = _FRONT_MATTER.sub("", path.read_text(encoding="utf-8-sig", errors="replace"))
    # Without HTML: a package may come from somebody else.
    content = MarkdownIt("js-default", {"html": False}).render(text)
    page = Template(_MODEL_CARD.read_text(encoding="utf-8")).substitute(content=content)

    async def read(_: Request) -> Response:
        return HTMLResponse(page, headers={"cache-control": "no-cache"})

    return [Route("/model-card", read)]


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


def card(description: Description, engine: str | None = None, *, maps: bool = False) -> dict[str, Any]:
    """Returns the model card as JSON values; `engine` runs the trunk here, None is the one of the training.

    `scores` are on the test photos; `classes` are in the order of their index, each with the share of its test photos
    that were classified correctly. Unknown numbers are None. `maps` says whether /explain is there.
    """
    metrics, transform = description.metrics, description.transform
    names, known = shown_names(description.classes), metrics.get("test/per_class_accuracy", ())
    shares = map(_number, known if len(known) == len(names) else [None] * len(names))
    classes = enumerate(zip(names, shares, strict=True))
    return {
        **{name: getattr(description, name) for name in _SAME},
        "head": {"kind": description.head.kind, "hidden": list(description.head.hidden)},
        "image": {"resize": transform.resize, "crop": transform.crop, "mirror": description.mirror},
        "classes": [{"index": index, "breed": name, "accuracy": share} for index, (name, share) in classes],
        "scores": {name: _number(metrics.get(f"test/{name}")) for name in _SCORES},
        "photos": dict(description.photos),
        "maps": maps,
        "engine": engine or description.engine,
        "precision": description.precision_by(engine or description.engine),
        "versions": dict(description.versions),
    }


def _number(value: object) -> float | None:
    """Returns a finite number; classes without test photos have NaN, which JSON has not."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

from __future__ import annotations

import base64
import io
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dogbreeds
from dogbreeds.data.splits import Photo
from dogbreeds.package.examples import DIRECTORY, load_examples, save_examples
from dogbreeds.package.messages import JSON, HttpError, format_response, parse_request
from dogbreeds.package.package import write_description
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve.site import card
from dogbreeds.training.run import train
from tests.conftest import Compose
from tests.serve.served import served

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
PAGE = Path(dogbreeds.__file__).parent / "serve" / "page"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
PATIENCE_MS = 90_000


class Server(ThreadingHTTPServer):
    """The contract that the page is written against, and what was asked of it."""

    def __init__(self, predictor: Predictor, package: Path) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.predictor, self.package = predictor, package
        self.loading = False
        self.asked: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Requests(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        package, predictor = self.server.package, self.server.predictor
        examples = load_examples(package)
        known = {
            "/ping": lambda: {},
            "/card": lambda: card(predictor.description, maps=True),
            "/examples": lambda: [{"name": one.file, "breed": one.breed} for one in examples],
        }
        file = PAGE / (self.path.lstrip("/") or "index.html")
        if self.path == "/ping" and self.server.loading:
            self._refuse(HttpError(503, "loading", "The model is being loaded."))
        elif self.path in known:
            self._answer(200, json.dumps(known[self.path]()).encode(), JSON)
        elif self.path.startswith(f"/{DIRECTORY}/"):
            self._answer(200, (package / self.path.lstrip("/")).read_bytes(), "image/jpeg")
        else:
            self._answer(200, file.read_bytes(), TYPES[file.suffix])

    def do_POST(self) -> None:
        body, kind = self.rfile.read(int(self.headers["content-length"])), self.headers["content-type"]
        self.server.asked.append((kind, body))
        try:
            request = parse_request(body, kind, max_photos=1, max_pixels=10**8)
            predictions = request.predictions(self.server.predictor.predict_each(request.photos))
        except HttpError as refused:
            self._refuse(refused)
        else:
            explained = (drawn(0, form="JPEG"), "image/jpeg") if self.path == "/explain" else None
            self._answer(200, *(explained or format_response(predictions, "", many=request.many)))

    def _refuse(self, refused: HttpError) -> None:
        self._answer(refused.status, refused.body(), JSON)

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {
            "content-type": kind,
            "content-security-policy": POLICY,
            "server-timing": "app;dur=7.5",
        }.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def drawn(seed: int, side: int = 96, form: str = "PNG") -> bytes:
    values = np.random.default_rng(seed).integers(0, 30 * (seed + 1), (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, form)
    return buffer.getvalue()


def sent(seed: int, name: str = "dog.png") -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": drawn(seed)}


def drop(page: Any, name: str, photo: bytes) -> None:
    page.evaluate(
        """async ([name, encoded]) => {
            const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: "image/png" }));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
        }""",
        [name, base64.b64encode(photo).decode()],
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def server(config: Compose) -> Iterator[Server]:
    package = train(config("epochs=1", "model.examples=0")).directory / "model"
    predictor = Predictor.load(package)
    # Whether noise is taken for a dog is not what is tested.
    predictor.description.known = {}
    write_description(package, predictor.description)
    photos = []
    for label in range(2):
        path = package.parent / f"{label}.png"
        path.write_bytes(drawn(label))
        photos.append(Photo(path, label, str(label), path.name))
    save_examples(package, photos, predictor.description.classes)
    with Server(predictor, package) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    with watched(browser, server.url) as page:
        yield page


@contextmanager
def watched(browser: Any, url: str) -> Iterator[Any]:
    """Opens a page that may ask nobody but its server, nor have any trouble."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    requests: list[str] = []
    troubles: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    # A refused photo is logged by the browser too; a violated policy is what matters.
    page.on("console", lambda said: troubles.append(said.text) if "Content Security Policy" in said.text else None)
    yield page
    assert requests
    assert not [asked for asked in requests if not asked.startswith((url, "blob:", "data:"))]
    assert not troubles
    context.close()


def test_the_page_from_the_first_look_to_the_last_photo(page: Any, server: Server) -> None:
    server.loading = True
    page.goto(server.url)
    page.wait_for_selector("#standing.loading")
    page.set_input_files("#files", sent(3))
    page.wait_for_selector("#asking.busy")
    assert not server.asked
    server.loading = False
    page.wait_for_selector("#answer .percent")
    (answer,) = server.predictor.predict([drawn(3)])
    assert page.inner_text(".name") == answer.top[0].breed
    assert page.locator("#bars .breed").all_inner_texts() == [one.breed for one in answer.top]
    assert page.locator("#bars .share").first.inner_text() == f"{100 * answer.top[0].probability:.1f}\u00a0%"
    assert "7.5 ms of it on the server" in page.inner_text("#timing")
    assert answer.top[0].breed in page.inner_text("#spoken")

    page.wait_for_selector("#card:not([hidden])")
    scores = server.predictor.description.metrics
    assert f"{100 * scores['test/accuracy']:.1f}\u00a0%" in page.inner_text("#tiles")
    breeds = [one["breed"] for one in card(server.predictor.description)["classes"]]
    assert page.locator("#classes .breed").all_inner_texts() == breeds
    page.fill("#filter", breeds[1].upper())
    assert page.locator("#classes li:visible .breed").all_inner_texts() == [breeds[1]]

    page.set_input_files("#files", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no photo"})
    page.wait_for_selector("#trouble:visible")
    assert "cannot be read (not an image)" in page.inner_text("#trouble")
    assert not page.locator("#answer").is_visible()
    page.click("#gallery li:last-child button")
    page.wait_for_selector("#answer:visible")

    page.set_input_files("#files", [sent(seed, f"{seed}.png") for seed in range(3)])
    page.locator("#gallery b").nth(3).wait_for()
    names = page.locator("#gallery li:not(.bad) .file").all_inner_texts()
    assert names == ["0.png", "1.png", "2.png", "dog.png"]
    said = page.locator("#gallery li:not(.bad) .said").all_inner_texts()
    expected = [answer.top[0] for answer in server.predictor.predict([drawn(seed) for seed in (0, 1, 2, 3)])]
    # Only certainty is 100 %.
    shares = ["> 99" if 0.995 <= best.probability < 1 else f"{100 * best.probability:.0f}" for best in expected]
    assert said == [f"{best.breed} {share}\u00a0%" for best, share in zip(expected, shares, strict=True)]

    # Of a server that is gone the page says so, and takes up again when it is back.
    page.route("**/invocations", lambda route: route.abort())
    page.route("**/ping", lambda route: route.abort())
    page.set_input_files("#files", sent(4, "lost.png"))
    page.wait_for_selector("#standing.lost")
    assert "does not respond" in page.inner_text("#trouble")
    page.unroute("**/invocations")
    page.unroute("**/ping")
    page.wait_for_selector("#standing.ready")
    page.click("#clear")
    assert page.inner_text(".name") == "Waiting for a photo"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_photo_of_none_of_the_breeds(page: Any, server: Server) -> None:
    server.predictor.description.known = {"method": "largest logit", "threshold": 1e9}
    page.goto(server.url)
    page.wait_for_selector("#card:not([hidden])")
    page.set_input_files("#files", [sent(3), sent(4, "other.png")])
    page.locator("#gallery .said", has_text="None of the breeds").nth(1).wait_for()
    (answer,) = server.predictor.predict([drawn(3)])
    assert page.inner_text(".name") == "This looks like none of the 3 breeds."
    assert page.locator("#bars .breed").all_inner_texts() == [one.breed for one in answer.top]
    spoken = page.inner_text("#spoken")
    assert spoken.startswith("This looks like none of the 3 breeds. The nearest is")
    assert answer.top[0].breed in spoken


def test_examples_and_photos_that_are_dropped_or_large(page: Any, server: Server) -> None:
    page.goto(server.url)
    examples = load_examples(server.package)
    page.wait_for_selector("#thumbs button")
    assert page.locator("#thumbs button").all_inner_texts() == [one.breed for one in examples]
    page.click("#thumbs li:nth-child(2) button")
    page.wait_for_selector("#answer .percent")
    content = (server.package / DIRECTORY / examples[1].file).read_bytes()
    assert page.inner_text(".name") == server.predictor.predict([content])[0].top[0].breed
    assert server.asked[-1][1] == content

    drop(page, "dropped.png", drawn(5))
    page.locator("#gallery li", has_text="dropped.png").locator("b").wait_for()
    assert server.asked[-1] == ("image/png", drawn(5))

    large = drawn(7, side=1400)
    assert len(large) > 1_500_000
    page.set_input_files("#files", {"name": "large.png", "mimeType": "image/png", "buffer": large})
    page.locator("#gallery li", has_text="large.png").locator("b").wait_for()
    kind, body = server.asked[-1]
    assert kind == "image/jpeg"
    assert len(body) < len(large) / 2
    assert Image.open(io.BytesIO(body)).size == (1024, 1024)


def test_the_page_shows_where_the_model_looked(page: Any, server: Server) -> None:
    page.goto(server.url)
    page.set_input_files("#files", {"name": "wide.png", "mimeType": "image/png", "buffer": drawn(3)})
    page.wait_for_selector("#answer .percent")
    assert not page.locator("#looked").is_visible()
    page.get_by_role("switch", name="Show where it looked").press("Space")
    page.wait_for_selector("#looked:visible")
    (answer,) = server.predictor.predict([drawn(3)])
    assert f"speaks most for {answer.top[0].breed}" in page.get_attribute("#looked", "alt")
    assert f"Yellow is what speaks most for {answer.top[0].breed}" in page.inner_text("#colours")
    transform = server.predictor.description.transform
    shown, frame = (page.locator(name).bounding_box() for name in ("#looked", "#frame"))
    assert shown["width"] / frame["width"] == pytest.approx(transform.crop / transform.resize, abs=0.01)

    # The next photo has its own; one that is not answered has none.
    asked = len(server.asked)
    page.set_input_files("#files", sent(1))
    page.wait_for_selector('#looked[alt*="photo dog.png"]:visible')
    assert len(server.asked) == asked + 2
    page.set_input_files("#files", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no photo"})
    page.wait_for_selector("#trouble:visible")
    assert not page.locator("#looked").is_visible()
    page.click("#gallery li:nth-child(2) button")
    page.wait_for_selector("#looked:visible")
    assert len(server.asked) == asked + 3

    # Of a photo that the browser cannot show there is the picture alone.
    photo = {"name": "scan.tiff", "mimeType": "image/tiff", "buffer": drawn(3, form="TIFF")}
    page.set_input_files("#files", photo)
    page.wait_for_selector('#looked[alt*="photo scan.tiff"]:visible')
    shown, frame = (page.locator(name).bounding_box() for name in ("#looked", "#frame"))
    assert shown == frame and shown["width"] == shown["height"] > 100
    page.get_by_role("switch", name="Show where it looked").press("Space")
    page.wait_for_selector(".invitation:visible")
    assert not page.locator("#photo").is_visible()
    page.get_by_role("switch", name="Show where it looked").press("Space")
    page.wait_for_selector("#looked:visible")

    page.route("**/explain", lambda route: route.abort())
    page.set_input_files("#files", sent(2, "lost.png"))
    page.wait_for_selector("#colours:has-text('It cannot be drawn: The server does not respond')")
    page.uncheck("#look")
    assert not page.locator("#colours").is_visible() and not page.locator("#looked").is_visible()


@pytest.mark.ci
def test_the_page_of_serve_py(browser: Any, server: Server) -> None:
    with served(server.package) as running, watched(browser, f"http://127.0.0.1:{running.port}") as page:
        page.goto(f"http://127.0.0.1:{running.port}/")
        page.wait_for_selector("#standing.ready")
        drop(page, "dropped.png", drawn(5))
        page.wait_for_selector("#answer .percent")
        (answer,) = server.predictor.predict([drawn(5)])
        assert page.inner_text(".name") == answer.top[0].breed
        page.click("#thumbs li:nth-child(2) button")
        page.locator("#gallery b").nth(1).wait_for()
        assert running.metrics()["dogbreeds_photos_total"] == 2
        page.click("#readme")
        page.wait_for_selector("h1:has-text('3 classes of sample')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.click("text=Back to the page")
        page.wait_for_selector("#standing.ready")

"""Pictures of where the model looked: those that predict.py writes, and those of the server."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from PIL import Image

from dogbreeds.asking import asked
from dogbreeds.command_schemas import PredictCommandConfig
from dogbreeds.errors import ConfigError, PlaceError
from dogbreeds.package.explanation import Explainer
from dogbreeds.package.package import load_package
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve import batch, site
from dogbreeds.serve.answers_file import Row
from dogbreeds.serve.batch import find_images
from tests.package.test_predictor import CPU, photo
from tests.serve.served import Served, invocation, limits
from tests.serve.test_app import SCOPE, Client
from tests.serve.test_batching import until


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number, name in enumerate(("a/rex.png", "a/rex.jpg", "b/rex.png", "broken.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photo(number) if number < 3 else b"no photo")
    return folder


def asking(package: Path, cache: Path, images: Path, folder: Path) -> Iterator[tuple[Row, bool]]:
    """Asks a package for photos and their pictures, as predict.py does."""
    given = {"package": str(package), "images": str(images), "explain": str(folder), "endpoint": None, "url": None}
    config = SimpleNamespace(**given, cache=SimpleNamespace(dir=str(cache)))
    with asked(cast(PredictCommandConfig, config)) as ask:
        return ask(find_images(str(images)))


def test_each_photo_has_a_picture_of_its_predicted_class(
    tiny_package: Path, tiny_predictor: Predictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    looked, explainer = tmp_path / "looked", Explainer(tiny_predictor)
    contents, read = {path: path.read_bytes() for path in Path().rglob("*.*")}, Path.read_bytes

    def read_once(path: Path) -> bytes:
        content = read(path)
        if path in contents:
            path.unlink()
        return content

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", read_once)
        found = list(asking(tiny_package, tmp_path / "cache", Path(), looked))
    assert [readable for _, readable in found] == [True, True, True, False]
    drawn = sorted(path.relative_to(looked).as_posix() for path in looked.rglob("*") if path.is_file())
    assert drawn == ["a/rex.jpg.jpg", "a/rex.png.jpg", "b/rex.png.jpg"]
    for row, _ in found[:3]:
        picture = explainer.picture(contents[Path(row["path"])], row["index"])
        assert (looked / f"{row['path']}.jpg").read_bytes() == picture


def test_pictures_come_into_a_folder_of_their_own(
    tiny_package: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = tmp_path / "looked"
    ask = partial(asking, tiny_package, tmp_path / "cache", photos / "a")
    assert len(list(ask(looked))) == 2
    (looked / ".DS_Store").touch()
    # Those of other photos may lie there too.
    (photos / "a/rex.png").unlink()
    assert len(list(ask(looked))) == 1 and len(list(looked.glob("*.jpg"))) == 2

    monkeypatch.setattr(batch, "load", None)
    (tmp_path / "link").symlink_to(photos / "b")
    (looked / "notes").mkdir()
    (looked / "notes/mine.txt").touch()
    for folder, found in ((photos / "b", "rex.png"), (tmp_path / "link", "rex.png"), (looked, "notes/mine.txt")):
        with pytest.raises(
            ConfigError, match=f"explain={folder} has other files in it, such as {folder / found}: name"
        ):
            ask(folder)
    with pytest.raises(PlaceError, match=r"broken\.png"):
        ask(photos / "broken.png")


def test_only_a_package_draws() -> None:
    given = SimpleNamespace(package=None, endpoint=None, url="http://127.0.0.1:9", explain="looked")
    config = cast(PredictCommandConfig, given)
    with pytest.raises(ConfigError, match="explain=looked needs package=<run>"), asked(config):
        pass


def test_pictures_do_not_become_photos(tiny_package: Path, photos: Path) -> None:
    with pytest.raises(ConfigError, match=f"lies in images={photos}, where its pictures would be photos"):
        asking(tiny_package, photos.parent / "cache", photos, photos / "looked")
    assert not (photos / "looked").exists()


@pytest.mark.slow
def test_the_server_draws_where_it_predicts(server: Served, tiny_predictor: Predictor) -> None:
    content = photo(4)
    assert server.get("/card").json["maps"] is True
    reply = server.send(explain(content, "image/png"))
    assert (reply.status, reply.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(reply.body)).size == (448, 448)
    (answer,) = tiny_predictor.predict([content])
    assert reply.body == Explainer(tiny_predictor).picture(content, answer.top[0].index)
    assert server.send(explain(b"no photo", "image/png")).code == "unreadable_image"
    assert server.send(explain(content, "text/html")).code == "unsupported_content_type"
    several = json.dumps({"instances": [{"image": "aaaa"}]}).encode()
    assert server.send(explain(several, "application/json")).code == "several_photos"
    assert server.send(explain(b"0" * 300_001, "image/png")).code == "too_large"
    assert server.get("/explain").code == "wrong_method"
    assert 'dogbreeds_requests_total{route="/explain",status="200"} 1.0' in server.get("/metrics").body.decode()


def explain(body: bytes, kind: str) -> bytes:
    return invocation(body, kind, "Connection: close").replace(b"/invocations", b"/explain", 1)


def test_one_photo_is_drawn_at_a_time_and_predictions_go_on(
    tiny_package: Path, tiny_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, drawing = threading.Event(), list[int]()

    class Slow:
        def __init__(self, _: Predictor) -> None: ...

        def picture(self, _: bytes, index: int) -> bytes:
            drawing.append(index)
            gate.wait(60)
            return b"drawn"

    monkeypatch.setattr(site, "Explainer", Slow)

    async def scenario() -> None:
        application = site.application(tiny_predictor, tiny_package, limits())
        application.batcher.start()
        await until(lambda: application.batcher.unavailable is None)
        first, second, third = (Client(photo(number)) for number in range(3))
        explain = {**SCOPE, "path": "/explain"}
        asked = [asyncio.ensure_future(application(explain, first.receive, first.send))]
        await until(lambda: bool(drawing))
        asked.append(asyncio.ensure_future(application(explain, second.receive, second.send)))
        await application(SCOPE, third.receive, third.send)
        assert json.loads(third.sent[1]["body"])["breed"]
        assert not first.sent and not second.sent and len(drawing) == 1
        # Who has gone is not drawn for.
        second.gone.set()
        await until(lambda: asked[1].done())
        gate.set()
        await asyncio.gather(*asked)
        assert first.sent[1]["body"] == b"drawn"
        assert not second.sent and len(drawing) == 1
        await asyncio.to_thread(application.batcher.close)

    asyncio.run(scenario())


def test_a_model_without_maps_has_no_such_path(tiny_package: Path) -> None:
    description, network = load_package(tiny_package)
    network.head.layers.append(network.head.layers[-1])
    application = site.application(Predictor(description, network, CPU), tiny_package, limits())
    client = Client(photo(1))

    async def ask() -> None:
        await application({**SCOPE, "path": "/explain"}, client.receive, client.send)

    asyncio.run(ask())
    assert client.sent[0]["status"] == 404 and b"not_found" in client.sent[1]["body"]

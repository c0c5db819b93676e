"""A package behind Ray Serve, in the container of a rehearsed endpoint; one of them answers all of these tests."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from dogbreeds.package.archive import archive_for
from dogbreeds.package.messages import as_json
from dogbreeds.package.package import load_package, save_package, write_description
from dogbreeds.package.predictor import Predictor
from local_sagemaker.serving.ray_container import InferenceContainer
from tests.conftest import ROOT, SHARED
from tests.local_sagemaker.serving.containers import wait_for
from tests.package.test_predictor import FOUR, described, network, photo

pytest.importorskip("ray", reason="Ray Serve is not installed")
pytestmark = pytest.mark.ci

PHOTOS, WEIGHTS = SHARED / "data" / "woof10", SHARED / "weights" / "squeezenet1_1_imagenet.pth"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on the real photos where they are, else with random weights."""
    run = tmp_path_factory.mktemp("run")
    if not (PHOTOS.is_dir() and WEIGHTS.is_file()):
        save_package(run / "model", described(FOUR), network(described(FOUR)))
        return run / "model"
    settings = [f"data.dir={PHOTOS}", "model=squeezenet1_1", f"model.weights={WEIGHTS}", "lr=0.01", "batch_size=256"]
    command = [sys.executable, str(ROOT / "train.py"), *settings, f"hydra.run.dir={run}"]
    subprocess.run(command, cwd=run, check=True, capture_output=True)
    return run / "model"


@pytest.fixture(scope="module")
def predictor(package: Path) -> Predictor:
    return Predictor.load(package, CPU)


@pytest.fixture(scope="module")
def container(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceContainer]:
    directory = tmp_path_factory.mktemp("container")
    archive_for(package, directory / "model.tar.gz", gpus=0, requirements=True)
    lines: list[str] = []
    served = InferenceContainer(directory / "model.tar.gz", directory / "instance", {}, lines.append)
    served.start()
    try:
        wait_for(served)
        yield served
    finally:
        served.close()
        # What pytest shows of a test that fails.
        print(*lines, sep="\n")


def ask(container: InferenceContainer, bodies: Sequence[bytes], kind: str, clients: int) -> list[tuple[int, bytes]]:
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(lambda body: container.invoke(body, {"Content-Type": kind}), bodies))
    assert all(said == "application/json" for _, _, said in answers)
    return [(status, content) for status, content, _ in answers]


def instances(photos: Sequence[bytes]) -> bytes:
    return json.dumps({"instances": [{"image": base64.b64encode(one).decode()} for one in photos]}).encode()


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "broken_json"),
        (b"\0" * 6_291_457, "image/jpeg", 413, "too_large"),
        (b"x", "text/plain", 415, "unsupported_content_type"),
        (b"x", "image/jpeg", 422, "unreadable_image"),
    ],
)
def test_refusals_come_through_ray_as_json(
    body: bytes, kind: str, status: int, code: str, container: InferenceContainer
) -> None:
    ((said, content),) = ask(container, [body], kind, clients=1)
    assert (said, json.loads(content)["error"]["code"]) == (status, code)


def test_many_clients_get_their_own_answers(container: InferenceContainer, predictor: Predictor) -> None:
    photos = [photo(seed) for seed in range(8)]
    expected = [predictor.predict([one])[0].top for one in photos]
    for position, (status, content) in enumerate(ask(container, photos * 8, "image/png", clients=16)):
        best = expected[position % len(photos)][0]
        said = json.loads(content)
        assert (status, said["prediction"]) == (200, best.index)
        assert said["probability"] == pytest.approx(best.probability, abs=1e-3)
    ((status, content),) = ask(container, [instances(photos)], "application/json", clients=1)
    assert [one["prediction"] for one in json.loads(content)["predictions"]] == [one[0].index for one in expected]


def test_what_is_too_much_is_refused_and_the_rest_is_answered(container: InferenceContainer) -> None:
    # Six times what fits into the replica's queue, and as many in each request as may be.
    answers = ask(container, [instances([photo(1)] * 64)] * 12, "application/json", clients=12)
    assert {status for status, _ in answers} == {200, 503}
    assert {json.loads(content)["error"]["code"] for status, content in answers if status == 503} == {"busy"}
    assert ask(container, [photo(1)], "image/png", clients=1)[0][0] == 200


def real_photos() -> list[tuple[int, bytes]]:
    if not (PHOTOS.is_dir() and WEIGHTS.is_file()):
        pytest.skip(f"the real photos or weights are not there: {SHARED}")
    classes = sorted((PHOTOS / "test").iterdir())
    return [(label, file.read_bytes()) for label, one in enumerate(classes) for file in sorted(one.iterdir())]


@pytest.mark.photos
def test_ray_answers_as_the_package_does(container: InferenceContainer, predictor: Predictor) -> None:
    photos = [content for _, content in real_photos()]
    through_ray = [json.loads(content) for _, content in ask(container, photos, "image/jpeg", clients=4)]
    directly = [as_json(predictor.predict([content])[0]) for content in photos]
    assert len(photos) == 350
    assert [one["prediction"] for one in through_ray] == [one["prediction"] for one in directly]
    for asked, called in zip(through_ray, directly, strict=True):
        there, here = ({one["index"]: one["probability"] for one in said["top"]} for said in (asked, called))
        assert there == pytest.approx(here, abs=1e-3)


@pytest.mark.photos
def test_the_trunk_may_compute_in_half_precision(package: Path, tmp_path: Path) -> None:
    labels, photos = zip(*real_photos(), strict=True)
    found = {}
    for precision in ("fp32", "bf16"):
        changed = Path(shutil.copytree(package, tmp_path / precision))
        description, _ = load_package(changed)
        description.precision = precision
        write_description(changed, description)
        predictor = Predictor.load(changed, CPU, one_by_one=False)
        assert predictor.engine.precision == precision
        found[precision] = np.array([one.top[0].index for one in predictor.predict(photos)])
    accuracy = {precision: (answers == labels).mean() for precision, answers in found.items()}
    assert min(accuracy.values()) > 0.7
    assert (found["fp32"] == found["bf16"]).mean() >= 0.98
    assert abs(accuracy["fp32"] - accuracy["bf16"]) <= 0.006

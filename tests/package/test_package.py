from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import dogbreeds
from dogbreeds.data.transform import Transform
from dogbreeds.errors import PackageError
from dogbreeds.features.engines.cpu import convert
from dogbreeds.model.backbones import cut, load_backbone
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.network import Network
from dogbreeds.package import package as package_module
from dogbreeds.package.archive import archive_for
from dogbreeds.package.package import (
    DESCRIPTION,
    FORMAT,
    WEIGHTS,
    Description,
    load_package,
    read_description,
    save_package,
    write_description,
)
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve.site import card

CPU = torch.device("cpu")
CLASSES = ["001.German_shepherd", "002.Épagneul_breton", "003.Pug"]
REFUSED = [
    *("pytorch_lightning", "lightning", "hydra", "omegaconf", "sagemaker", "prometheus_client"),
    *("torchmetrics", "optuna", "ray", "matplotlib", "rich", "filelock", "platformdirs", "openvino", "timm", "nncf"),
    *("smdebug", "starlette", "plotly", "psutil", "requests", "tensorboard", "yaml"),
]

# Predicts with what an archive carries, on a machine that lacks what only training uses.
SERVING = """
import json, sys
from importlib.machinery import PathFinder
from pathlib import Path

package, photo, source, *refused = sys.argv[1:]
sys.path[:] = [f"{package}/code", *(entry for entry in sys.path if entry and Path(entry) != Path(source))]
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in refused else find(name, *rest)

import torch
from dogbreeds.package.predictor import Predictor

torch.set_num_threads(1)
predictor = Predictor.load(Path(package))
content = Path(photo).read_bytes()
logits = predictor.logits(predictor.description.transform.read(content)[None])
answer = [[one.breed, one.index, one.probability] for one in predictor.predict([content])[0].top]

# The images for Ray Serve have Starlette, and little else.
refused.remove("starlette")
import dogbreeds.serve.ray_app
import dogbreeds.serve.app

files = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "dogbreeds"]
print(json.dumps({"files": files, "engine": predictor.engine.name, "logits": logits.tolist(), "answer": answer}))
"""


def images(number: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (number, 3, 64, 64), dtype=torch.uint8, generator=generator)


def description(**changes: Any) -> Description:
    values: dict[str, Any] = {
        "classes": CLASSES,
        "backbone": "squeezenet1_1",
        "pretrained": False,
        "unfreeze": "fire9",
        "transform": Transform(70, 64, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)),
        "head": HeadShape("linear", 512, len(CLASSES)),
        "engine": "torch",
        "precision": "fp32",
        "temperature": 1.7,
        "metrics": {"test/accuracy": 0.75},
    }
    return Description(**(values | changes))


def network(described: Description) -> Network:
    """Random weights, none of which is at its initial value."""
    backbone = load_backbone(described.backbone, "random", seed=3)
    trunk, tail = cut(backbone.stages, described.transform, described.unfreeze)
    generator = torch.Generator().manual_seed(5)
    for module in (trunk, tail):
        for name, tensor in module.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(std=0.1, generator=generator)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
    head = Head(described.head).eval()
    with torch.inference_mode():
        head.normalise.fit(tail(trunk(images(8))))
        for parameter in head.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return Network(trunk, tail, head)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "model"
    save_package(directory, description(), network(description()))
    return directory


@pytest.fixture
def package(saved: Path, tmp_path: Path) -> Path:
    """A copy to do damage to, in a run directory of its own."""
    return Path(shutil.copytree(saved, tmp_path / "run" / "model"))


def refusal(directory: Path) -> str:
    with pytest.raises(PackageError) as caught:
        load_package(directory)
    assert str(directory) in str(caught.value)
    return str(caught.value)


# Round trip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bf16"},
        {"unfreeze": None, "head": HeadShape("mlp", 512, 3, hidden=[16], dropout=0.5)},
        {"backbone": "resnet18", "unfreeze": "layer4"},
        {"engine": "openvino"},
        {"engine": "openvino", "unfreeze": None},
    ],
    ids=["linear", "bf16", "mlp", "batch norm", "openvino", "openvino without a tail"],
)
def test_a_loaded_package_gives_the_same_logits_to_the_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    described = description(**changes)
    original = network(described)
    save_package(tmp_path / "model", described, original)
    expected = Predictor(described, original, CPU).logits(images())
    loaded, restored = load_package(tmp_path / "model")
    # JSON knows no tuples.
    assert json.dumps(loaded.to_json()) == json.dumps(described.to_json())
    assert loaded.transform == described.transform
    assert float((expected[0] - expected[1]).abs().max()) > 0
    assert torch.equal(Predictor(loaded, restored, CPU).logits(images()), expected)


def test_saving_changes_nothing_in_the_network(saved: Path, tmp_path: Path) -> None:
    described, loaded = load_package(saved)
    predictor = Predictor(described, loaded, CPU)
    before = predictor.logits(images())
    save_package(tmp_path / "again", described, predictor.network)
    assert torch.equal(predictor.logits(images()), before)
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()


def test_a_loaded_network_is_ready_to_serve(saved: Path) -> None:
    _, loaded = load_package(saved)
    parts = (loaded.trunk, loaded.tail, loaded.head)
    assert all(list(part.parameters()) for part in parts)
    assert not any(parameter.requires_grad for part in parts for parameter in part.parameters())
    assert not any(parameter.is_meta for part in parts for parameter in part.parameters())
    assert not any(module.training for part in parts for module in part.modules())


def test_what_a_package_holds(saved: Path) -> None:
    files = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
    assert files == {DESCRIPTION, WEIGHTS}
    said = json.loads((saved / DESCRIPTION).read_text(encoding="utf-8"))
    assert said["format"] == FORMAT
    assert said["classes"] == CLASSES
    assert said["temperature"] == 1.7
    assert said["metrics"] == {"test/accuracy": 0.75}
    assert said["versions"]["dogbreeds"] == dogbreeds.__version__
    assert said["versions"]["torch"] == torch.__version__
    assert {name.partition(".")[0] for name in load_file(saved / WEIGHTS)} == {"trunk", "tail", "head"}


@pytest.fixture
def quantised(tmp_path: Path) -> Path:
    """A package that says int8, whose trunk of OpenVINO is the one in floats."""
    described = description(engine="openvino", precision="int8")
    made = network(described)
    graph = convert(made.trunk, "", described.transform, None)
    save_package(tmp_path / "quantised", described, replace(made, int8=graph))
    return tmp_path / "quantised"


@pytest.mark.slow
def test_a_trunk_in_int8_travels_with_the_package(quantised: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Predictor.load(quantised, CPU)
    expected = fast.logits(images())
    assert (fast.engine.name, fast.engine.precision) == ("openvino", "int8")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    plain = Predictor.load(quantised, CPU)
    torch.testing.assert_close(plain.logits(images()), expected, atol=0.1, rtol=0.1)
    assert (plain.engine.name, plain.engine.precision) == ("torch", plain.description.int8["instead"])
    assert card(plain.description, "torch")["precision"] == plain.description.int8["instead"]
    assert card(plain.description)["precision"] == "int8"
    # As an export asks for it.
    assert replace(plain.description, precision="fp32").precision_by("torch") == "fp32"


@pytest.mark.slow
def test_a_damaged_trunk_in_int8_is_refused(quantised: Path) -> None:
    weights = quantised / "trunk.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert "trunk.xml and trunk.bin are damaged" in refusal(quantised)
    weights.unlink()
    assert "trunk.xml and trunk.bin cannot be read" in refusal(quantised)


def test_the_temperature_can_be_rewritten(package: Path) -> None:
    described, _ = load_package(package)
    described.temperature = 0.5
    write_description(package, described)
    assert load_package(package)[0] == described
    assert not list(package.glob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("served", ["openvino", "torch"])
def test_the_code_of_a_package_serves_alone(served: str, package: Path, tmp_path: Path) -> None:
    """With the engine that it was trained with, or with the plain torch module where that is not installed."""
    described, _ = load_package(package)
    described.engine = "openvino"
    write_description(package, described)
    archive_for(package, tmp_path / "model.tar.gz", gpus=0, requirements=False)
    served_from = tmp_path / "served"
    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        tar.extractall(served_from, filter="data")
    pixels = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    source = Path(dogbreeds.__file__).parents[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    refused = [name for name in REFUSED if name != served]
    done = subprocess.run(
        [sys.executable, "-c", SERVING, str(served_from), str(tmp_path / "photo.png"), str(source), *refused],
        env=environment | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["engine"] == served
    assert len(said["files"]) > 5
    assert all(Path(file).is_relative_to(served_from / "code") for file in said["files"])
    predictor = Predictor.load(package, CPU)
    content = (tmp_path / "photo.png").read_bytes()
    torch.testing.assert_close(
        torch.tensor(said["logits"]),
        predictor.logits(predictor.description.transform.read(content)[None]),
        atol=1e-3,
        rtol=1e-3,
    )
    here = predictor.predict([content])[0].top
    assert [entry[:2] for entry in said["answer"]] == [[one.breed, one.index] for one in here]


@pytest.mark.parametrize(
    "added", [{"int8": {"digest": "0a"}}, {"known": {"method": "largest logit", "threshold": 2.5}}, {}]
)
def test_a_description_is_read_as_it_was_written(added: dict[str, Any]) -> None:
    described = description(**added)
    assert Description.from_json(described.to_json()) == described


def test_a_package_of_the_format_before_libraries(saved: Path, package: Path) -> None:
    path = package / DESCRIPTION
    values = json.loads(path.read_text(encoding="utf-8"))
    for later in ("library", "pool", "mirror", "weights", "licence"):
        del values[later]
    path.write_text(json.dumps(values | {"format": 2}), encoding="utf-8")
    described, loaded = load_package(package)
    assert (described.library, described.pool, described.mirror, described.weights) == (
        "torchvision",
        "head",
        False,
        "",
    )
    expected = Predictor(*load_package(saved), CPU).logits(images())
    assert torch.equal(Predictor(described, loaded, CPU).logits(images()), expected)


# Interrupted saving


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["save_file", "write_description"])
def test_interrupted_saving_leaves_no_package(
    step: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described, loaded = load_package(saved)
    directory = tmp_path / "run" / "model"
    with monkeypatch.context() as patched:
        patched.setattr(f"dogbreeds.package.package.{step}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_package(directory, described, loaded)
    assert not directory.exists()
    save_package(directory, described, loaded)
    assert load_package(directory)[0] == described
    assert [path.name for path in directory.parent.iterdir()] == ["model"]


def test_interrupted_saving_keeps_the_package_before(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, loaded = load_package(package)
    monkeypatch.setattr(package_module, "write_description", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_package(package, description(temperature=9.0), loaded)
    assert load_package(package)[0] == before


def test_saving_replaces_the_package_before(package: Path) -> None:
    (package / "old.txt").touch()
    _, loaded = load_package(package)
    save_package(package, description(temperature=9.0), loaded)
    assert load_package(package)[0].temperature == 9.0
    assert not (package / "old.txt").exists()


# Packages that cannot be used


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert "is not a model package: it has no model.json" in refusal(tmp_path / "missing")


def test_without_a_description(package: Path) -> None:
    (package / DESCRIPTION).unlink()
    assert "it has no model.json" in refusal(package)
    assert "did you mean" not in refusal(package)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": "1"}', '{"format": 1}', "\ufeff{}"])
def test_a_damaged_description(text: str, package: Path) -> None:
    (package / DESCRIPTION).write_text(text, encoding="utf-8")
    assert f"{package / DESCRIPTION} is damaged" in refusal(package)


def cut_off(content: bytes) -> bytes:
    return content[: len(content) // 2]


def test_a_cut_off_description(package: Path) -> None:
    path = package / DESCRIPTION
    path.write_bytes(cut_off(path.read_bytes()))
    assert f"{path} is damaged" in refusal(package)


def without_engine(values: dict[str, Any]) -> None:
    del values["engine"]


def without_classes(values: dict[str, Any]) -> None:
    del values["classes"]


def without_crop(values: dict[str, Any]) -> None:
    del values["transform"]["crop"]


def with_unknown_entry(values: dict[str, Any]) -> None:
    values["colour"] = "brown"


@pytest.mark.parametrize("change", [{"backbone": "resnet99"}, {"unfreeze": "fire99"}])
def test_a_network_that_cannot_be_built(change: dict[str, Any], package: Path) -> None:
    path = package / DESCRIPTION
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | change), encoding="utf-8")
    said = refusal(package)
    assert f"{path} describes a network that this version cannot build" in said
    assert "99" in said


@pytest.mark.parametrize("damage", [without_classes, without_engine, without_crop, with_unknown_entry])
def test_a_description_with_other_entries(damage: Callable[[dict[str, Any]], None], package: Path) -> None:
    path = package / DESCRIPTION
    values = json.loads(path.read_text(encoding="utf-8"))
    damage(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    assert f"{path} is damaged" in refusal(package)


def test_null_is_an_entry_that_is_not_there(package: Path) -> None:
    path = package / DESCRIPTION
    values, before = json.loads(path.read_text(encoding="utf-8")), read_description(package)
    path.write_text(json.dumps(values | {"known": None, "unfreeze": None}), encoding="utf-8")
    assert read_description(package) == replace(before, unfreeze=None)
    path.write_text(json.dumps(values | {"temperature": None}), encoding="utf-8")
    assert f"{path} is damaged" in refusal(package) and "temperature" in refusal(package)


def test_a_package_of_a_newer_version(package: Path) -> None:
    path = package / DESCRIPTION
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | {"format": FORMAT + 1, "colour": "brown"}), encoding="utf-8")
    assert "was made by a newer version of dogbreeds: update this one" in refusal(package)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.9999])
def test_cut_off_weights(kept: float, package: Path) -> None:
    content = (package / WEIGHTS).read_bytes()
    (package / WEIGHTS).write_bytes(content[: int(kept * len(content))])
    assert "model.safetensors is missing or damaged" in refusal(package)


def test_without_weights(package: Path) -> None:
    (package / WEIGHTS).unlink()
    assert "model.safetensors is missing or damaged" in refusal(package)


def test_weights_that_do_not_fit_the_description(package: Path) -> None:
    write_description(package, description(head=HeadShape("linear", 512, 4)))
    assert "model.safetensors is missing or damaged" in refusal(package)

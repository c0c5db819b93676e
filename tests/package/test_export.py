from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dogbreeds.command_schemas import ExportCommandConfig
from dogbreeds.constraints import settings
from dogbreeds.data.transform import Transform
from dogbreeds.errors import ConfigError, DataError, UserError
from dogbreeds.features.engines.cpu import import_openvino
from dogbreeds.model.backbones import cut, load_backbone
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.network import Network
from dogbreeds.package.export import check_out, compare, export, usage
from dogbreeds.package.export_formats import FORMATS
from dogbreeds.package.package import Description, save_package
from dogbreeds.package.predictor import Predictor

pytestmark = pytest.mark.slow

CLASSES = ["001.Pug", "002.Épagneul_breton", "Samoyed"]
SMALL = Transform(70, 64, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def packaged(
    directory: Path,
    backbone: str,
    unfreeze: str | None,
    transform: Transform,
    head: str = "mlp",
    *,
    library: str = "torchvision",
    mirror: bool = False,
) -> Path:
    """A package with random weights, whose answers differ from photo to photo."""
    loaded = load_backbone(backbone, "random", seed=3, library=library, resolution=transform.crop)
    shape = HeadShape(head, loaded.width, len(CLASSES), (8,) if head == "mlp" else (), 0.5 if head == "mlp" else 0.0)
    described = Description(CLASSES, backbone, False, unfreeze, transform, shape, "torch", "fp32", temperature=1.7)
    described = replace(described, library=library, mirror=mirror)
    trunk, tail = cut(loaded.stages, transform, unfreeze, mirror=mirror)
    made = Head(shape).eval()
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (4, 3, transform.crop, transform.crop), dtype=torch.uint8, generator=generator)
    with torch.inference_mode():
        made.normalise.fit(tail.eval()(trunk(images // torch.tensor([1, 2, 3, 4]).view(4, 1, 1, 1))))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    save_package(directory, described, Network(trunk, tail, made))
    return directory


def drawn(directory: Path, count: int = 5) -> list[Path]:
    paths = [directory / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        values = np.random.default_rng(number).integers(0, 40 * (number + 1), (90, 80, 3), dtype=np.uint8)
        Image.fromarray(values).save(path)
    return paths


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packaged(tmp_path_factory.mktemp("run") / "model", "squeezenet1_1", "fire9", SMALL)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    (tmp_path / "photos").mkdir()
    return drawn(tmp_path / "photos")


def as_used(code: str, images: np.ndarray, folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """What the lines that are printed give."""
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"images": images, "torch": torch}
    exec(code, names)
    return np.asarray(names["probabilities"])


def metadata(form: str, path: Path) -> dict[str, str]:
    if form == "onnx":
        import onnxruntime

        return dict(onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map)
    if form == "pt2":
        extra = {"classes": "", "transform": "", "input": ""}
        torch.export.load(path, extra_files=extra)
        return extra
    model = import_openvino().Core().read_model(path)
    return {name: model.get_rt_info(["dogbreeds", name]).astype(str) for name in ("classes", "transform", "input")}


@pytest.mark.parametrize("form", FORMATS)
def test_a_graph_says_what_the_package_says(
    form: str, package: Path, photos: Sequence[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for needed in FORMATS[form].needs:
        pytest.importorskip(needed)
    out = check_out(form, str(tmp_path / f"dogs{FORMATS[form].ending}"))
    found = export(package, form, out, photos)
    assert (found.photos, found.disagreeing, found.good) == (5, 0, True)
    assert found.difference < 1e-3
    assert {path.suffix for path in tmp_path.glob("*") if path.is_file()} <= {FORMATS[form].ending, ".bin"}
    assert not list(tmp_path.glob(".*"))

    predictor = Predictor.load(package, torch.device("cpu"))
    images = torch.stack([predictor.description.transform.read(path.read_bytes()) for path in photos])
    expected = (predictor.logits(images).double() / 1.7).softmax(dim=1).numpy()
    answered = as_used(usage(form, out), images.numpy(), tmp_path, monkeypatch)
    np.testing.assert_allclose(answered, expected, atol=1e-3)
    assert float(np.ptp(expected, axis=0).max()) > 0.05

    said = metadata(form, out)
    assert json.loads(said["classes"]) == ["Pug", "Épagneul breton", "Samoyed"]
    assert json.loads(said["transform"]) == {"resize": 70, "crop": 64, "interpolation": "bilinear"}
    assert "(N, 3, 64, 64)" in said["input"]


@pytest.mark.parametrize(("form", "backbone"), [("onnx", "test_vit"), ("pt2", "test_efficientnet")])
def test_graphs_of_timm_with_mirror_images(form: str, backbone: str, photos: Sequence[Path], tmp_path: Path) -> None:
    for needed in ("timm", *FORMATS[form].needs):
        pytest.importorskip(needed)
    made = packaged(tmp_path / "model", backbone, None, SMALL, library="timm", mirror=True)
    found = export(made, form, tmp_path / f"dogs{FORMATS[form].ending}", photos)
    assert (found.photos, found.disagreeing, found.good) == (5, 0, True)
    predictor = Predictor.load(made, torch.device("cpu"))
    images = torch.stack([predictor.description.transform.read(path.read_bytes()) for path in photos])
    torch.testing.assert_close(predictor.logits(images), predictor.logits(images.flip(-1)))


def test_a_graph_that_says_something_else_is_not_left_behind(
    package: Path, photos: Sequence[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = FORMATS["pt2"]

    def heated(graph: nn.Module, side: int, about: dict[str, str], path: Path) -> None:
        graph.temperature = 3.0
        form.write(graph, side, about, path)

    monkeypatch.setitem(FORMATS, "pt2", replace(form, write=heated))
    out = tmp_path / "dogs.pt2"
    out.write_bytes(b"before")
    with pytest.raises(UserError, match="discarded because it disagrees with the package"):
        export(package, "pt2", out, photos)
    assert out.read_bytes() == b"before"
    assert {path.name for path in tmp_path.iterdir()} == {"dogs.pt2", "photos"}


def test_comparing() -> None:
    images = torch.zeros(3, 3, 2, 2, dtype=torch.uint8)
    expected = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]], dtype=np.float32)
    given: list[int] = []

    def run(batch: np.ndarray, answers: np.ndarray) -> np.ndarray:
        given.append(len(batch))
        return answers[: len(batch)]

    same = compare(lambda batch: run(batch, expected), expected, images)
    assert (same.photos, same.difference, same.disagreeing, same.good) == (3, 0.0, 0, True)
    assert given == [1, 3]
    other = compare(lambda batch: run(batch, expected[:, ::-1]), expected, images)
    assert (other.disagreeing, other.good) == (2, False)
    assert other.difference == pytest.approx(0.8)
    assert not compare(lambda batch: run(batch, expected * np.nan), expected, images).good
    assert not compare(lambda batch: run(batch, expected + np.float32(2e-3)), expected, images).good


def test_what_cannot_be_exported(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (allowed,) = (one.constraint for one in settings(ExportCommandConfig) if one.name == "format")
    assert str(allowed) == f"one of {', '.join(FORMATS)}"
    with pytest.raises(ConfigError, match=r"must end in \.onnx"):
        check_out("onnx", str(tmp_path / "dogs.pt2"))
    with pytest.raises(ConfigError, match="there is no"):
        check_out("pt2", str(tmp_path / "missing" / "dogs.pt2"))
    (tmp_path / "dogs.pt2").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        check_out("pt2", str(tmp_path / "dogs.pt2"))
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"bad\.jpg cannot be read.*: not an image"):
        export(package, "pt2", tmp_path / "other.pt2", [tmp_path / "bad.jpg"])
    monkeypatch.setattr("dogbreeds.installation.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"onnx and onnxscript and onnxruntime: pip install 'dogbreeds\[export\]'"):
        check_out("onnx", str(tmp_path / "dogs.onnx"))


@pytest.mark.ci
@pytest.mark.parametrize(
    ("form", "backbone", "unfreeze"),
    [("onnx", "vit_b_16", "layer11"), ("onnx", "efficientnet_b0", None), ("openvino", "convnext_tiny", "stage4")],
)
def test_other_backbones(
    form: str, backbone: str, unfreeze: str | None, photos: Sequence[Path], tmp_path: Path
) -> None:
    for needed in FORMATS[form].needs:
        pytest.importorskip(needed)
    transform = load_backbone(backbone, "random", 0).transform
    made = packaged(tmp_path / "model", backbone, unfreeze, transform, head="linear")
    assert export(made, form, tmp_path / f"dogs{FORMATS[form].ending}", photos[:3]).good

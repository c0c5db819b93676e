"""Where a model looked: maps that are exact, networks that have none, and pictures that show the right place."""

from __future__ import annotations

import io
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from dogbreeds.data.transform import Transform
from dogbreeds.errors import ConfigError, PackageError
from dogbreeds.model.backbones import Mirrored, cut, load_backbone
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.network import Network
from dogbreeds.package import explanation
from dogbreeds.package.explanation import Explainer, pictures_of
from dogbreeds.package.package import save_package
from dogbreeds.package.predictor import Predictor
from tests.package.test_predictor import CPU, FOUR, described, network, photo, pixels


def predictor_of(backbone: str, *, mirror: bool = False, head: str = "linear", side: int = 64) -> Predictor:
    """A predictor with random weights whose logits are about one."""
    library = "timm" if backbone.startswith("test_") else "torchvision"
    if library == "timm":
        pytest.importorskip("timm")
    found = load_backbone(backbone, "random", seed=3, library=library, resolution=side)
    _measure(found.stages, side)
    trunk, tail = cut(found.stages, found.transform, None, mirror=mirror)
    shape = HeadShape(head, found.width, len(FOUR), hidden=(8,))
    own = Head(shape).eval().requires_grad_(False)
    with torch.inference_mode():
        own.normalise.fit(trunk(images(8, side)))
    generator = torch.Generator().manual_seed(5)
    for parameter in own.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    description = replace(
        described(FOUR), backbone=backbone, unfreeze=None, transform=found.transform, head=shape, mirror=mirror
    )
    return Predictor(description, Network(trunk, tail, own), CPU)


@torch.no_grad()
def _measure(stages: nn.Module, side: int) -> None:
    """Gives batch normalisation the statistics of noise: with those of no photos, some networks return nothing."""
    torch.manual_seed(3)
    for module in stages.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    stages.train()(torch.randn(4, 3, side, side))
    stages.eval()


def images(number: int, side: int) -> Tensor:
    return torch.randint(256, (number, 3, side, side), generator=torch.Generator().manual_seed(1)).byte()


@pytest.mark.parametrize(
    ("backbone", "mirror"),
    [
        *(("resnet18", False), ("squeezenet1_1", False), ("squeezenet1_1", True), ("mobilenet_v2", False)),
        *(("efficientnet_b0", False), ("test_efficientnet", False), ("test_resnet", True)),
    ],
)
def test_the_mean_of_a_map_is_the_logit(backbone: str, mirror: bool) -> None:
    predictor = predictor_of(backbone, mirror=mirror, side=96)
    (image,) = images(1, 96)
    maps = Explainer(predictor).maps(image)
    assert maps.shape[0] == len(FOUR) and maps.shape[1] == maps.shape[2] > 1
    (logits,) = predictor.classify(predictor.network.trunk(image[None]))
    torch.testing.assert_close(maps.mean(dim=(1, 2)), logits, atol=1e-4, rtol=0)
    assert float(maps.std(dim=(1, 2)).min()) > 1e-5


def test_a_trained_tail_is_a_part_of_the_map() -> None:
    predictor = Predictor(described(FOUR), network(described(FOUR)), CPU)
    (image,) = pixels(1)
    maps = Explainer(predictor).maps(image)
    # The predictor hands activations to the tail in half precision.
    torch.testing.assert_close(maps.mean(dim=(1, 2)), predictor.logits(image[None])[0], atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("backbone", "head"),
    [("mobilenet_v3_large", "linear"), ("test_vit", "linear"), ("test_convnext", "linear"), ("squeezenet1_1", "mlp")],
)
def test_networks_without_maps_are_refused_by_name(backbone: str, head: str) -> None:
    predictor = predictor_of(backbone, head=head, side=160 if backbone == "test_vit" else 64)
    with pytest.raises(ConfigError, match=f"explain= needs .* this is {backbone} with model.head={head}"):
        Explainer(predictor)


class Plain(nn.Module):
    """Colours from 0 to 1, in 8 by 8 places."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images / 255, 8)


def of_colours(kind: type[nn.Sequential]) -> Predictor:
    """Class 0 is red, class 1 green, class 2 blue."""
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    trunk = kind(OrderedDict([("colours", Plain()), ("pool", pool)]))
    head = Head(HeadShape("linear", 3, 3)).eval().requires_grad_(False)
    head.set_linear(torch.eye(3), torch.zeros(3))
    whole = Transform(64, 64, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    description = replace(described(["red", "green", "blue"]), unfreeze=None, transform=whole, head=head.shape)
    return Predictor(description, Network(trunk, nn.Sequential(), head), CPU)


@pytest.mark.parametrize("kind", [nn.Sequential, Mirrored])
def test_a_picture_is_yellow_where_the_class_is(kind: type[nn.Sequential]) -> None:
    values = np.full((96, 96, 3), 90, np.uint8)
    values[:32, :32], values[64:, 64:] = (220, 40, 40), (40, 40, 220)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    explainer = Explainer(of_colours(kind))
    for index, corner in ((0, (0, 0)), (2, (2, 2))):
        picture = Image.open(io.BytesIO(explainer.picture(file.getvalue(), index)))
        assert (picture.format, picture.size) == ("JPEG", (448, 448))
        shown = np.asarray(picture.resize((3, 3), Image.Resampling.BOX)).astype(int)
        yellow = shown[..., 0] - shown[..., 2]
        assert np.unravel_index(yellow.argmax(), (3, 3)) == corner
        assert yellow[corner] > 40 > 0 > yellow[0, 2]


def test_colours_rise_evenly_in_lightness() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    ends = explanation._NOTHING, explanation._MOST
    colours = np.asarray(ImageOps.colorize(ramp, *ends, mid=explanation._HALF))[0] / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ (0.2126, 0.7152, 0.0722)) - 16
    steps = np.diff(lightness[::17])
    assert lightness[-1] - lightness[0] > 70
    assert steps.min() > 0.8 * steps.mean() and steps.max() < 1.2 * steps.mean()


def test_pictures_are_of_the_package_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "dog.png").write_bytes(photo(3))
    own = replace(described(FOUR), metrics={"test/accuracy": 0.5, "val/loss": float("nan")})
    save_package(tmp_path / "model", own, network(own))
    scores = {"classes": FOUR, "seconds": {}, "val/loss": float("nan"), "test/accuracy": 0.5}
    draw = pictures_of(tmp_path / "model", scores)
    assert draw(tmp_path / "dog.png", 1) != draw(tmp_path / "dog.png", 2)
    for other in ({"classes": FOUR[:2]}, {"test/accuracy": 0.6}):
        with pytest.raises(PackageError, match=r"model is the package of another run: its classes or scores are not"):
            pictures_of(tmp_path / "model", scores | other)

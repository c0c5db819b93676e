from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from dogbreeds.data.transform import Transform
from dogbreeds.errors import ConfigError, WeightsError
from dogbreeds.model.backbones import architecture, architecture_of, cut, fingerprint, load_backbone, trunk_of
from dogbreeds.model.backbones.torchvision_networks import TorchvisionNetwork
from dogbreeds.model.names import BACKBONES

pytestmark = pytest.mark.slow

WIDTHS = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "vgg16": 4096,
    "vgg16_bn": 4096,
    "squeezenet1_1": 512,
    "mobilenet_v2": 1280,
    "mobilenet_v3_large": 1280,
    "efficientnet_b0": 1280,
    "convnext_tiny": 768,
    "vit_b_16": 768,
}
SMALL = "squeezenet1_1"


def randomised(name: str, **options: Any) -> nn.Module:
    """A torchvision model in which no weight and no statistic is at a value that would hide its absence."""
    with torch.device("meta"):
        model: nn.Module = models.get_model(name, weights=None, **options).eval()
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("num_batches_tracked"):
                value.fill_(7)
            elif key.endswith("running_var"):
                value.uniform_(0.5, 2.0, generator=generator)
            elif value.ndim > 1:
                value.normal_(std=(2 / value[0].numel()) ** 0.5, generator=generator)
            elif key.endswith("weight"):
                value.uniform_(1.0, 2.0, generator=generator)
            else:
                value.normal_(std=0.1, generator=generator)
    return model


def saved(state: Mapping[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(dict(state), path)
    else:
        torch.save(dict(state), path)
    return path


def flat_state(name: str) -> dict[str, Tensor]:
    """A state dict of the right names, shapes and types that takes next to no memory or disk."""
    with torch.device("meta"):
        state = models.get_model(name, weights=None).state_dict()
    return {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in state.items()}


def load(name: str, path: Path) -> Any:
    return load_backbone(name, str(path), seed=0)


def refusal(name: str, path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load(name, path)
    message = str(caught.value)
    assert f"model.weights={path}" in message
    return message


def images(number: int, size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, 3, size, size), dtype=torch.uint8, generator=generator)


def transform_of(name: str) -> Transform:
    return architecture_of(name).preset("imagenet").transform


def normalised(pixels: Tensor, name: str) -> Tensor:
    transform = transform_of(name)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (transform.mean, transform.std))
    return (pixels / 255 - mean) / std


def names_of(stages: nn.Module) -> list[str]:
    return [name for name, _ in stages.named_children()]


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return randomised(SMALL)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return randomised("resnet18")


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of torch.hub, and no way out; yields where the weights of `SMALL` would be cached."""

    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    (tmp_path / "checkpoints").mkdir()
    yield tmp_path / "checkpoints" / Path(models.get_model_weights(SMALL)["DEFAULT"].url).name


# Stages


@pytest.mark.parametrize("name", BACKBONES)
def test_every_named_stage_can_be_cut_at(name: str) -> None:
    stages = architecture(name)
    names = names_of(stages)
    places = [names.index(stage) for stage in BACKBONES[name]]
    assert all(before < after for before, after in pairwise(places))
    assert all(parameter.is_meta for parameter in stages.parameters())
    for stage, place in zip(BACKBONES[name], places, strict=True):
        trunk, tail = cut(stages, transform_of(name), stage)
        assert names_of(trunk) == ["normalise", *names[:place]]
        assert names_of(tail) == names[place:]
        assert [*trunk.children(), *tail.children()][1:] == list(stages.children())


@pytest.mark.parametrize("name", BACKBONES)
def test_without_unfreezing_the_tail_is_empty(name: str) -> None:
    stages = architecture(name)
    trunk, tail = cut(stages, transform_of(name), None)
    assert names_of(trunk) == ["normalise", *names_of(stages)]
    assert len(tail) == 0


@pytest.mark.parametrize("name", BACKBONES)
def test_widths(name: str) -> None:
    crop = transform_of(name).crop
    assert architecture(name)(torch.empty(2, 3, crop, crop, device="meta")).shape == (2, WIDTHS[name])


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_the_stages_of_vgg_are_its_layers_in_order(name: str) -> None:
    def layers(module: nn.Module) -> list[str]:
        leaves = (layer for layer in module.modules() if not list(layer.children()))
        return [repr(layer) for layer in leaves if not isinstance(layer, nn.Flatten)]

    with torch.device("meta"):
        model = models.get_model(name, weights=None)
    assert layers(architecture(name)) == layers(model)[:-1]


@pytest.mark.parametrize("name", BACKBONES)
def test_transform_is_what_the_weights_were_trained_with(name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (270, 340, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    preset = models.get_model_weights(name)["DEFAULT"].transforms()
    ours = normalised(transform_of(name)(image)[None], name)[0]
    # The crop is resized alone: of some pixels the rounding to 256 levels differs, by one.
    difference, level = (ours - preset(image)).abs(), 1 / 255 / min(transform_of(name).std)
    assert difference.max() <= level + 1e-5
    assert (difference > 1e-5).float().mean() < 0.02


def test_transforms_differ_between_backbones() -> None:
    sizes = {name: (transform_of(name).resize, transform_of(name).interpolation) for name in BACKBONES}
    assert sizes["resnet18"] == (256, "bilinear")
    assert sizes["resnet50"] == (232, "bilinear")
    assert sizes["efficientnet_b0"] == (256, "bicubic")


# The numbers of torchvision


def last_layer(model: nn.Module) -> nn.Linear:
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("resnet18", "layer3"),
        ("mobilenet_v3_large", "block9"),
        ("efficientnet_b0", "block5"),
        ("convnext_tiny", "stage3"),
        pytest.param("vit_b_16", "layer6", marks=pytest.mark.ci),
    ],
)
@torch.no_grad()
def test_trunk_tail_and_the_own_last_layer_give_the_logits_of_torchvision(
    name: str, stage: str, tmp_path: Path
) -> None:
    model = randomised(name)
    backbone = load(name, saved(model.state_dict(), tmp_path / "weights.safetensors"))
    assert backbone.pretrained
    assert backbone.width == WIDTHS[name]
    trunk, tail = cut(backbone.stages, backbone.transform, stage)
    if name == "vit_b_16":
        pixels = images(2, transform_of(name).crop)
        expected = model(normalised(pixels, name))
    else:
        # Random weights magnify rounding: in float32 it grows to a few 1e-4.
        for module in (model, trunk, tail):
            module.double()
        pixels = images(2, 64)
        expected = model(normalised(pixels.double(), name))
    spread = float(expected.std())
    assert float((expected[0] - expected[1]).abs().max()) > 0.01 * spread
    torch.testing.assert_close(last_layer(model)(tail(trunk(pixels))), expected, atol=1e-3 * spread, rtol=0)


@torch.no_grad()
def test_squeezenet_gives_the_mean_of_its_feature_map(small: nn.Module, tmp_path: Path) -> None:
    backbone = load(SMALL, saved(small.state_dict(), tmp_path / "weights.pth"))
    trunk, tail = cut(backbone.stages, backbone.transform, "fire5")
    pixels = images(2, 64)
    expected = cast(nn.Module, small.features)(normalised(pixels, SMALL)).mean(dim=(2, 3))
    assert float((expected[0] - expected[1]).abs().max()) > 0
    torch.testing.assert_close(tail(trunk(pixels)), expected)


# Cutting


def test_the_trunk_is_frozen_and_the_tail_is_not(small: nn.Module, tmp_path: Path) -> None:
    backbone = load(SMALL, saved(small.state_dict(), tmp_path / "weights.pth"))
    trunk, tail = cut(backbone.stages, backbone.transform, "fire8")
    assert {parameter.requires_grad for parameter in trunk.parameters()} == {False}
    assert {parameter.requires_grad for parameter in tail.parameters()} == {True}
    assert not any(module.training for module in trunk.modules())
    tail(trunk(images(2, 64))).sum().backward()
    assert all(parameter.grad is None for parameter in trunk.parameters())
    assert all(parameter.grad is not None for parameter in tail.parameters())


def test_cutting_again_at_another_stage_freezes_what_was_free(small: nn.Module, tmp_path: Path) -> None:
    backbone = load(SMALL, saved(small.state_dict(), tmp_path / "weights.pth"))
    cut(backbone.stages, backbone.transform, "fire2")
    trunk, tail = cut(backbone.stages, backbone.transform, "fire9")
    assert not any(parameter.requires_grad for parameter in trunk.parameters())
    assert all(parameter.requires_grad for parameter in tail.parameters())


def test_normalisation_adds_nothing_to_the_state(small: nn.Module, tmp_path: Path) -> None:
    backbone = load(SMALL, saved(small.state_dict(), tmp_path / "weights.pth"))
    trunk, _ = cut(backbone.stages, backbone.transform, None)
    assert trunk.state_dict().keys() == backbone.stages.state_dict().keys()


# The trunk


@pytest.mark.parametrize(
    ("name", "unfreeze", "shape"),
    [
        ("resnet18", None, (512,)),
        ("resnet18", "layer4", (256, 14, 14)),
        (SMALL, None, (512,)),
        (SMALL, "fire9", (512, 13, 13)),
        (SMALL, "fire2", (64, 55, 55)),
    ],
)
@torch.no_grad()
def test_what_is_known_of_a_trunk(name: str, unfreeze: str | None, shape: tuple[int, ...]) -> None:
    backbone = load_backbone(name, "random", seed=0)
    trunk = trunk_of(backbone, unfreeze)
    assert trunk.shape == shape
    assert trunk.layers(images(1, backbone.transform.crop)).shape[1:] == shape
    assert trunk.transform == backbone.transform
    assert trunk.fingerprint == fingerprint(trunk.layers)
    assert name in trunk.name


@pytest.mark.parametrize("make", [architecture, lambda name: load_backbone(name, "random", seed=0)])
def test_an_unknown_backbone_is_named_with_those_that_there_are(make: Callable[[str], object]) -> None:
    for name in ("resnet19", "alexnet"):
        with pytest.raises(ConfigError, match=rf"model\.backbone={name}: unknown\. Use one of resnet18, "):
            make(name)


def test_an_unknown_stage_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"model\.unfreeze=layer5: unknown stage\. Use one of .*layer1, .*layer4"):
        cut(architecture("resnet18"), transform_of("resnet18"), "layer5")


def test_trunks_of_different_cuts_have_names_and_fingerprints_of_their_own() -> None:
    backbone = load_backbone(SMALL, "random", seed=0)
    trunks = [trunk_of(backbone, unfreeze) for unfreeze in (None, *BACKBONES[SMALL])]
    for values in ([trunk.name for trunk in trunks], [trunk.fingerprint for trunk in trunks]):
        assert len(set(values)) == len(trunks)


def test_a_trunk_is_known_by_its_weights(small: nn.Module, tmp_path: Path) -> None:
    state = dict(small.state_dict())
    one, tail_differs = (
        load(SMALL, saved(state | {"features.12.squeeze.bias": torch.full((64,), value)}, tmp_path / f"{value}.pth"))
        for value in (0.0, 1.0)
    )
    assert trunk_of(one, None).fingerprint != trunk_of(tail_differs, None).fingerprint
    # What is behind the cut does not matter.
    assert trunk_of(one, "fire9").fingerprint == trunk_of(tail_differs, "fire9").fingerprint


# Weights from files


def test_pth_and_safetensors_give_the_same_backbone(small: nn.Module, tmp_path: Path) -> None:
    # Seven numbers first shift all tensors behind them in the file.
    state = small.state_dict() | {"classifier.1.bias": torch.zeros(7)}
    one = load(SMALL, saved(state, tmp_path / "weights.pth"))
    other = load(SMALL, saved(state, tmp_path / "weights.safetensors"))
    assert fingerprint(one.stages) == fingerprint(other.stages)
    assert not one.stages.training
    # The last bits of a matrix product depend on where in memory its operands lie.
    for backbone in (one, other):
        assert {parameter.data_ptr() % 64 for parameter in backbone.stages.parameters()} == {0}


@pytest.mark.parametrize("name", ["resnet18", SMALL])
def test_weights_fine_tuned_on_other_classes_load(name: str, tmp_path: Path) -> None:
    states = [randomised(name, num_classes=classes).state_dict() for classes in (7, 1000)]
    last = "fc." if name == "resnet18" else "classifier."
    for key, value in states[0].items():
        if not key.startswith(last):
            states[1][key] = value
    few, usual = (load(name, saved(state, tmp_path / f"{position}.pth")) for position, state in enumerate(states))
    assert fingerprint(few.stages) == fingerprint(usual.stages)


def test_weights_without_a_last_layer_load(small: nn.Module, tmp_path: Path) -> None:
    state = {key: value for key, value in small.state_dict().items() if key.startswith("features")}
    assert load(SMALL, saved(state, tmp_path / "weights.pth")).width == 512


@torch.no_grad()
def test_old_weights_without_batch_counters_load(resnet: nn.Module, tmp_path: Path) -> None:
    state = {k: v for k, v in resnet.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert len(state) < len(resnet.state_dict())
    stages = load("resnet18", saved(state, tmp_path / "weights.pth")).stages
    assert not [key for key, value in chain(stages.named_parameters(), stages.named_buffers()) if value.is_meta]
    pixels = normalised(images(1, 64), "resnet18")
    torch.testing.assert_close(resnet.fc(stages(pixels)), resnet(pixels))  # type: ignore[operator]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_saved_in_another_precision_compute_in_float32(
    small: nn.Module, dtype: torch.dtype, tmp_path: Path
) -> None:
    state = {key: value.to(dtype) for key, value in small.state_dict().items()}
    stages = load(SMALL, saved(state, tmp_path / "weights.safetensors")).stages
    assert {parameter.dtype for parameter in stages.parameters()} == {torch.float32}
    torch.testing.assert_close(next(stages.parameters()), next(small.parameters()), atol=0.01, rtol=0.01)


@pytest.mark.parametrize(
    ("asked", "given", "difference"),
    [
        ("resnet18", "resnet34", "unexpected layer1.2.conv1.weight; unexpected layer1.2.bn1.weight"),
        ("resnet34", "resnet18", "missing layer1.2.conv1.weight; missing layer1.2.bn1.weight"),
        ("resnet50", "resnet34", "missing layer1.0.conv3.weight"),
        ("mobilenet_v3_large", "vgg16", "missing features.0.0.weight"),
        ("vgg16", "vgg16_bn", "missing features.2.weight"),
        (SMALL, "vit_b_16", "missing features.0.weight"),
        ("vit_b_16", SMALL, "missing class_token"),
    ],
)
def test_weights_of_another_backbone_name_the_keys_and_the_backbone_that_fits(
    asked: str, given: str, difference: str, tmp_path: Path
) -> None:
    message = refusal(asked, saved(flat_state(given), tmp_path / "weights.pth"))
    assert f"are not weights of {asked}: {difference}" in message
    assert message.count("missing ") + message.count("unexpected ") + message.count(" instead of ") == 3
    assert " more." in message
    assert message.endswith(f"They fit model={given}.")


def test_weights_that_fit_no_backbone_suggest_none(tmp_path: Path) -> None:
    message = refusal("resnet18", saved(flat_state("alexnet"), tmp_path / "weights.pth"))
    assert "missing conv1.weight" in message
    assert "They fit" not in message


def test_a_tensor_of_another_shape_is_named_with_both_shapes(small: nn.Module, tmp_path: Path) -> None:
    state = small.state_dict() | {"features.0.weight": torch.zeros(64, 1, 3, 3)}
    message = refusal(SMALL, saved(state, tmp_path / "weights.pth"))
    assert "features.0.weight is (64, 1, 3, 3) instead of (64, 3, 3, 3)." in message
    assert " more" not in message


# Files that are no weights


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_cut_off_files(small: nn.Module, suffix: str, kept: float, tmp_path: Path) -> None:
    path = saved(small.state_dict(), tmp_path / f"weights{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "damaged or cut off" in refusal(SMALL, path)


def test_cut_off_files_of_the_format_before_torch_1_6(small: nn.Module, tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save(small.state_dict(), file, _use_new_zipfile_serialization=False)
    content = file.getvalue()
    path = tmp_path / "weights.pth"
    for kept in (*range(1, 200, 3), *range(200, 8000, 401), len(content) // 2, len(content) - 1):
        path.write_bytes(content[:kept])
        refusal(SMALL, path)
    path.write_bytes(content)
    assert load(SMALL, path).width == 512


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "text",
    [
        "hello world\n",
        "<!DOCTYPE html>\n<html></html>\n",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "{}",
        "Good",
        "q",
    ],
)
def test_text_files(suffix: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_text(text)
    refusal(SMALL, path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_missing_files_and_folders(suffix: str, tmp_path: Path) -> None:
    assert "No such file" in refusal(SMALL, tmp_path / f"missing{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    refusal(SMALL, tmp_path / f"folder{suffix}")


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["torch", "pickle", "hidden"])
def test_code_in_a_pickle_is_not_run(small: nn.Module, form: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "weights.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Payload(marker)))
    else:
        torch.save(Payload(marker) if form == "torch" else {**small.state_dict(), "x": Payload(marker)}, path)
    assert "not a state dict that can be loaded safely" in refusal(SMALL, path)
    assert not marker.exists()
    # The payload would have worked.
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()


def test_a_pickled_whole_model_is_refused_without_the_advice_to_trust_it(small: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(small, path)
    message = refusal(SMALL, path)
    assert "torch.save(model.state_dict(), path)" in message
    assert "weights_only" not in message
    assert message.isprintable() or message.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "content",
    [{"epoch": 3, "state_dict": {"a": torch.zeros(1)}}, {1: torch.zeros(1)}, [torch.zeros(1)], torch.zeros(1), 3],
    ids=["checkpoint", "numbers for names", "list", "tensor", "number"],
)
def test_other_content_than_a_state_dict(content: object, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    message = refusal(SMALL, path)
    assert f"holds a {type(content).__name__} that is not a state dict" in message
    assert "torch.save(model.state_dict(), path)" in message


# Weights from the net


def test_without_network_the_message_has_two_ways_out(no_network: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone(SMALL, "imagenet", seed=0)
    message = str(caught.value)
    assert "no route to host" in message
    assert "https://download.pytorch.org/models/squeezenet1_1" in message
    assert "model.weights=<file>" in message
    assert "model.weights=random" in message
    assert str(no_network) in message


def test_weights_that_were_put_into_the_cache_need_no_network(small: nn.Module, no_network: Path) -> None:
    torch.save(small.state_dict(), no_network)
    backbone = load_backbone(SMALL, "imagenet", seed=0)
    assert backbone.pretrained
    assert torch.equal(next(backbone.stages.parameters()), next(small.parameters()))


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"hello world\n", b"PK\x03\x04"])
def test_damaged_weights_in_the_cache(content: bytes, no_network: Path) -> None:
    no_network.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        load_backbone(SMALL, "imagenet", seed=0)
    assert str(no_network) in str(caught.value)


# Random weights


def test_the_seed_decides_random_weights() -> None:
    torch.manual_seed(1)
    one = load_backbone(SMALL, "random", seed=5)
    torch.manual_seed(2)
    same = load_backbone(SMALL, "random", seed=5)
    other = load_backbone(SMALL, "random", seed=6)
    assert fingerprint(one.stages) == fingerprint(same.stages)
    assert fingerprint(one.stages) != fingerprint(other.stages)
    assert not one.pretrained
    assert not any(parameter.requires_grad for parameter in one.stages.parameters())


def test_random_weights_do_not_disturb_the_global_generator() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    load_backbone(SMALL, "random", seed=5)
    assert torch.equal(torch.get_rng_state(), before)


# Fingerprints


def test_the_fingerprint_changes_with_one_weight(small: nn.Module) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    first = fingerprint(module)
    assert first == fingerprint(module)
    with torch.no_grad():
        module[0].weight[2, 1] += 1e-6  # type: ignore[operator, index]
    second = fingerprint(module)
    module[1].running_mean[3] += 1  # type: ignore[operator, index]
    assert len({first, second, fingerprint(module)}) == 3


def test_the_fingerprint_depends_on_names_and_not_on_the_memory_format() -> None:
    convolution = nn.Conv2d(3, 4, 3)
    assert fingerprint(nn.Sequential(convolution)) != fingerprint(nn.Sequential(nn.Identity(), convolution))
    contiguous = fingerprint(convolution)
    assert fingerprint(convolution.to(memory_format=torch.channels_last)) == contiguous


# Named weights, resolution


def test_named_weights_have_a_transform_and_a_licence_of_their_own() -> None:
    network = architecture_of("resnet50")
    assert network.named_weights() == ["imagenet1k_v1", "imagenet1k_v2"]
    old, new, recommended = (network.preset(name) for name in ("imagenet1k_v1", "imagenet1k_v2", "imagenet"))
    assert (old.transform.resize, new.transform.resize) == (256, 232)
    assert recommended == new
    assert old.licence == "BSD-3-Clause"
    assert "SWAG" in architecture_of("vit_b_16").preset("imagenet1k_swag_e2e_v1").licence


def test_named_weights_are_downloaded_by_their_name(small: nn.Module, no_network: Path) -> None:
    torch.save(small.state_dict(), no_network)
    backbone = load_backbone(SMALL, "imagenet1k_v1", seed=0)
    assert (backbone.weights, backbone.licence) == ("imagenet1k_v1", "BSD-3-Clause")


def test_a_folder_of_weights_serves_the_backbone(small: nn.Module, tmp_path: Path) -> None:
    saved(small.state_dict(), tmp_path / "squeezenet1_1_imagenet.pth")
    backbone = load(SMALL, tmp_path)
    assert (backbone.weights, backbone.licence) == ("squeezenet1_1_imagenet.pth", "not stated")
    assert torch.equal(next(backbone.stages.parameters()), next(small.parameters()))


def test_a_file_of_known_weights_keeps_their_name_licence_and_transform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that was downloaded elsewhere: torchvision's addresses have digits of the SHA-256."""
    path = saved(flat_state("mobilenet_v2"), tmp_path / "mine.pth")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    addresses = {
        "imagenet1k_v1": f"https://a/mobilenet_v2-{digest[:8]}.pth",
        "imagenet1k_v2": "https://a/b-00000000.pth",
    }
    monkeypatch.setattr(TorchvisionNetwork, "source", lambda _, name: (addresses[name], ""))
    backbone = load("mobilenet_v2", path)
    assert (backbone.weights, backbone.licence) == ("imagenet1k_v1", "BSD-3-Clause")
    assert (backbone.transform.resize, transform_of("mobilenet_v2").resize) == (256, 232)


def test_another_resolution() -> None:
    backbone = load_backbone("resnet18", "random", seed=0, resolution=96, crop=0.75)
    assert (backbone.transform.crop, backbone.transform.resize) == (96, 128)
    assert trunk_of(backbone, "layer4").shape == (256, 6, 6)
    with pytest.raises(ConfigError, match=r"model\.resolution=8: squeezenet1_1 does not take that size"):
        load_backbone(SMALL, "random", seed=0, resolution=8)


def test_a_transformer_has_positions_for_its_resolution(tmp_path: Path) -> None:
    path = saved(randomised("vit_b_16").state_dict(), tmp_path / "weights.pth")
    backbone = load_backbone("vit_b_16", str(path), seed=0, resolution=64)
    state = backbone.stages.state_dict()
    assert state["embedding.position"].shape == (1, 17, 768)
    outline = architecture("vit_b_16", side=64)
    assert {key: value.shape for key, value in outline.state_dict().items()} == {k: v.shape for k, v in state.items()}
    with pytest.raises(ConfigError, match=r"model\.resolution=100: vit_b_16 takes multiples of 16"):
        load_backbone("vit_b_16", "random", seed=0, resolution=100)

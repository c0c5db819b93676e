from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dogbreeds.errors import ConfigError, WeightsError
from dogbreeds.model.backbones import architecture, architecture_of, cut, fingerprint, load_backbone, trunk_of
from tests.conftest import SHARED

timm = pytest.importorskip("timm")
VisionTransformer = timm.models.VisionTransformer

#: One small network of each family, with the side of its images.
FAMILIES = {
    "test_vit": 160,
    "vit_small_patch14_reg4_dinov2": 56,
    "test_convnext": 160,
    "test_efficientnet": 160,
    "test_resnet": 160,
    "hgnetv2_b0": 64,
    "tiny_vit_5m_224": 64,
}
# Its layers take the positions of their patches too.
UNCUT = "eva02_tiny_patch14_224"
SMALL = "test_vit"


@torch.no_grad()
def randomised(name: str, side: int, **options: int) -> nn.Module:
    """A network of timm in which no weight and no statistic is at a value that would hide its absence."""
    torch.manual_seed(3)
    fixed = timm.get_pretrained_cfg(name).fixed_input_size
    model: nn.Module = timm.create_model(name, **({"img_size": side} if fixed else {}), **options).eval()
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        elif value.is_floating_point() and value.ndim < 2:
            value.add_(torch.randn_like(value) * 0.1)
        elif value.is_floating_point():
            value.normal_(std=(2 / value[0].numel()) ** 0.5)
    return model.requires_grad_(False)


def saved(model: nn.Module, path: Path) -> str:
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return str(path)


def images(number: int, side: int) -> Tensor:
    return torch.randn(number, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, UNCUT])
@torch.inference_mode()
def test_stages_give_what_the_network_gives(name: str, tmp_path: Path) -> None:
    side = FAMILIES.get(name, 56)
    model = randomised(name, side)
    path = saved(model, tmp_path / "weights.safetensors")
    backbone = load_backbone(name, path, 0, library="timm", resolution=side)
    pixels = images(2, side)
    expected = model.forward_head(model.forward_features(pixels), pre_logits=True)  # type: ignore[operator]
    assert float((expected[0] - expected[1]).abs().max()) > 1e-3
    torch.testing.assert_close(backbone.stages(pixels), expected)
    assert backbone.width == expected.shape[1]
    # Each weight once, and none of the layer that the new head replaces.
    state = backbone.stages.state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state)
    assert set(architecture(name, library="timm", side=side).state_dict()) == set(state)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_a_cut_at_any_stage_composes_to_the_whole(name: str) -> None:
    side = FAMILIES[name]
    backbone = load_backbone(name, "random", 0, library="timm", resolution=side)
    pixels = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    whole = cut(backbone.stages, backbone.transform, None)[0](pixels)
    names = [stage for stage, _ in backbone.stages.named_children()]
    assert len(names) > 5
    for stage in names[1:-1]:
        trunk, tail = cut(backbone.stages, backbone.transform, stage)
        found = trunk_of(backbone, stage)
        between = trunk(pixels)
        assert between.shape[1:] == found.shape
        torch.testing.assert_close(tail.eval()(between), whole)


def test_stages_are_called_after_the_layers_of_the_network() -> None:
    vit, resnet = (architecture(name, library="timm") for name in (SMALL, "test_resnet"))
    blocks = [f"block{number}" for number in range(6)]
    assert [name for name, _ in vit.named_children()] == ["stem", *blocks, "pool"]
    assert [name for name, _ in resnet.named_children()] == ["stem", "layer1", "layer2", "layer3", "layer4", "pool"]


@pytest.mark.slow
def test_a_network_that_cannot_be_cut_says_so() -> None:
    backbone = load_backbone(UNCUT, "random", 0, library="timm", resolution=56)
    with pytest.raises(ConfigError, match=r"model\.unfreeze=block3: this network cannot be cut at a stage"):
        cut(backbone.stages, backbone.transform, "block3")


@torch.inference_mode()
def test_class_token_and_mean_of_the_patches(tmp_path: Path) -> None:
    model = randomised(SMALL, 160)
    path = saved(model, tmp_path / "weights.safetensors")
    both, head = (load_backbone(SMALL, path, 0, library="timm", pool=pool) for pool in ("token+mean", "head"))
    tokens = model.forward_features(images(2, 160))  # type: ignore[operator]
    expected = torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)
    torch.testing.assert_close(both.stages(images(2, 160)), expected)
    assert both.width == 2 * head.width
    # The same weights, but not the same features.
    assert trunk_of(both, None).fingerprint != trunk_of(head, None).fingerprint
    assert trunk_of(both, "block1").fingerprint == trunk_of(head, "block1").fingerprint


@pytest.mark.parametrize("name", ["test_resnet", "test_vit2"])
def test_without_a_class_token_there_is_no_such_pooling(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.pool=token\+mean: {name} has no class token"):
        load_backbone(name, "random", 0, library="timm", pool="token+mean")


@pytest.mark.parametrize("name", ["pit_ti_224", "volo_d1_224"])
def test_without_tokens_of_patches_there_is_no_such_pooling(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"pool=token\+mean: {name} does not say .* Use model\.pool=head\.$"):
        load_backbone(name, "random", 0, library="timm", pool="token+mean")


def test_the_class_token_alone_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = VisionTransformer.forward_features
    monkeypatch.setattr(VisionTransformer, "forward_features", lambda self, images: whole(self, images)[:, :1])
    with pytest.raises(ConfigError, match=r"pool=token\+mean: test_vit returns no tokens of patches\."):
        load_backbone(SMALL, "random", 0, library="timm", pool="token+mean")


def test_torchvision_has_no_such_pooling() -> None:
    with pytest.raises(ConfigError, match=r"model\.pool=token\+mean: needs model\.library=timm"):
        load_backbone("squeezenet1_1", "random", 0, pool="token+mean")


# Names


def test_an_unknown_network_is_told_with_names_that_are_close() -> None:
    with pytest.raises(
        ConfigError, match=r"backbone=tf_efficientnet_lit0: .*no such network\. .*tf_efficientnet_lite0"
    ):
        architecture_of("tf_efficientnet_lit0", "timm")
    with pytest.raises(ConfigError, match=r"no such weights of test_vit\. Use one of r160_in1k"):
        architecture_of("test_vit.other", "timm")


def test_named_weights_have_transform_and_licence_of_their_own() -> None:
    network = architecture_of("vit_small_patch16_224", "timm")
    assert {"augreg_in21k", "augreg_in1k"} <= set(network.named_weights())
    preset = network.preset("augreg_in1k")
    assert (preset.weights, preset.licence, preset.transform.crop) == ("augreg_in1k", "apache-2.0", 224)
    assert architecture_of("vit_small_patch16_224.augreg_in1k", "timm").preset("imagenet") == preset
    dinov2 = architecture_of("vit_small_patch14_dinov2", "timm").preset("imagenet").transform
    assert (dinov2.crop, dinov2.resize, dinov2.interpolation) == (518, 518, "bicubic")


# Weights


def test_weights_of_other_classes_and_another_size_load(tmp_path: Path) -> None:
    model = randomised(SMALL, 160, num_classes=7)
    path = saved(model, tmp_path / "weights.safetensors")
    backbone = load_backbone(SMALL, path, 0, library="timm", resolution=128)
    assert backbone.stages(images(1, 128)).shape == (1, backbone.width)
    assert (backbone.weights, backbone.licence, backbone.transform.crop) == ("weights.safetensors", "not stated", 128)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = saved(randomised("test_resnet", 160), tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match=r"are not weights of test_vit: missing cls_token; .* and \d+ more"):
        load_backbone(SMALL, path, 0, library="timm")


def _refuse(*_: object, **__: object) -> None:
    raise ConnectionError("no route to host")


def test_weights_that_are_here_already_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(SMALL, 160)
    monkeypatch.setattr("dogbreeds.model.backbones.timm_networks.get_hf_file_metadata", _refuse)
    monkeypatch.setattr("dogbreeds.model.backbones.timm_networks.try_to_load_from_cache", lambda repository, file: file)
    monkeypatch.setattr(timm, "create_model", lambda name, **_: model)
    assert set(architecture_of(SMALL, "timm").download("imagenet")) == set(model.state_dict())


# Nobody listens at the discard port of this machine.
_UNREACHABLE = """
import os, sys, time
os.environ.update(HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=sys.argv[1])
import timm
from dogbreeds.errors import WeightsError
from dogbreeds.model.backbones import load_backbone
def refuse(seconds):
    sys.exit("it waits before it tries again")
time.sleep = refuse
try:
    load_backbone("test_vit", "imagenet", 0, library="timm")
except WeightsError as error:
    print(error)
"""


@pytest.mark.ci
def test_without_network_the_message_comes_soon_and_alone(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", _UNREACHABLE, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "https://huggingface.co/timm/test_vit.r160_in1k cannot be downloaded (" in done.stdout
    assert len(done.stdout.splitlines()) == 2


def test_random_weights_are_decided_by_the_seed_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (load_backbone(SMALL, "random", seed, library="timm") for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert fingerprint(one.stages) == fingerprint(same.stages) != fingerprint(other.stages)


def test_an_impossible_resolution_is_told() -> None:
    with pytest.raises(ConfigError, match=r"model\.resolution=1: test_efficientnet|model\.resolution=1: test_vit"):
        load_backbone(SMALL, "random", 0, library="timm", resolution=1)


@pytest.mark.photos
@pytest.mark.parametrize(("name", "side"), [("tf_efficientnet_lite0", 224), ("tf_efficientnet_lite2", 260)])
@torch.inference_mode()
def test_real_weights_give_the_features_of_timm(name: str, side: int) -> None:
    folder = SHARED / "weights"
    if not (folder / f"{name}.safetensors").is_file():
        pytest.skip(f"the real weights are not there: {folder}")
    backbone = load_backbone(name, str(folder), 0, library="timm")
    model = timm.create_model(name, checkpoint_path=folder / f"{name}.safetensors").eval()
    pixels = images(2, side)
    expected = model.forward_head(model.forward_features(pixels), pre_logits=True)
    torch.testing.assert_close(backbone.stages(pixels), expected)
    assert backbone.weights == f"{name}.safetensors"
    assert (backbone.transform.crop, backbone.transform.mean) == (side, (0.5, 0.5, 0.5))


# Without timm


def test_where_timm_is_missing_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dogbreeds.installation.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'dogbreeds\[timm\]'"):
        architecture_of("test_vit", "timm")

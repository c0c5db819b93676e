from __future__ import annotations

from pathlib import Path

import pytest

from dogbreeds.errors import WeightsError
from dogbreeds.model.weight_files import weights_file


@pytest.mark.parametrize(
    ("backbone", "file"),
    [
        ("resnet50", "resnet50.safetensors"),
        ("resnet18", "resnet18-f37072fd.pth"),
        ("vgg16", "vgg16.pth"),
        ("vgg16_bn", "vgg16_bn.pth"),
        ("tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k.safetensors"),
        ("tf_efficientnet_lite0.in1k", "tf_efficientnet_lite0.in1k.safetensors"),
        ("convnext_tiny.in12k", "convnext_tiny.in12k.safetensors"),
    ],
)
def test_a_folder_gives_the_file_that_is_called_after_the_backbone(backbone: str, file: str, tmp_path: Path) -> None:
    for name in (
        *("resnet50.safetensors", "resnet50_old.pth", "resnet18-f37072fd.pth", "resnet18.txt", "vgg16.pth"),
        *("vgg16_bn.pth", "tf_efficientnet_lite0.in1k.safetensors", "convnext_tiny.fb_in1k.safetensors"),
        *("convnext_tiny.in12k.safetensors", "README.md"),
    ):
        (tmp_path / name).touch()
    assert weights_file(tmp_path, backbone) == tmp_path / file
    assert weights_file(tmp_path / "own.pth", backbone) == tmp_path / "own.pth"


def test_none_and_several_are_listed(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no file called after resnet50 \(no \.pth or \.safetensors\)"):
        weights_file(tmp_path, "resnet50")
    for name in ("resnet50_a.pth", "resnet50_b.safetensors", "resnet501.pth"):
        (tmp_path / name).touch()
    with pytest.raises(WeightsError, match=r"several files .* \(resnet50_a\.pth, resnet50_b\.safetensors\)\. "):
        weights_file(tmp_path, "resnet50")
    with pytest.raises(WeightsError, match=r"no file called after vgg16 \(resnet501\.pth, resnet50_a\.pth, "):
        weights_file(tmp_path, "vgg16")

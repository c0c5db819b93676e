"""The reference engine, and what precision it computes in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dogbreeds.features.engines import reference
from dogbreeds.features.engines.reference import TorchEngine, resolve_precision
from dogbreeds.model.backbones import cut, load_backbone

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trunk() -> nn.Module:
    name = "squeezenet1_1"
    backbone = load_backbone(name, "random", seed=0)
    return cut(backbone.stages, backbone.transform, None)[0]


def images(number: int) -> Tensor:
    """Images that differ in colour and in texture."""
    generator = torch.Generator().manual_seed(1)
    colour = torch.rand(number, 3, 1, 1, generator=generator)
    return ((colour + torch.rand(number, 3, 64, 64, generator=generator)) / 2 * 255).to(torch.uint8)


def engine(trunk: nn.Module, precision: str = "fp32", batch_size: int | None = 4, workers: int = 1) -> TorchEngine:
    return TorchEngine(trunk, device=CPU, precision=precision, batch_size=batch_size, workers=workers)


# Precision


@pytest.fixture
def hardware(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of `cpu` and `gpu` compute bf16 in hardware; all emulate it."""
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor : 0\nflags : avx512f {'avx512_bf16' if 'cpu' in request.param else ''} amx_tile\n")
    monkeypatch.setattr(reference, "_CPU_INFO", path)

    def supported(including_emulation: bool = True) -> bool:
        return "gpu" in request.param or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)


@pytest.mark.parametrize(
    ("requested", "device", "hardware", "resolved"),
    [
        ("auto", "cpu", "cpu", "bf16"),
        ("auto", "cpu", "gpu", "fp32"),
        ("auto", "cuda", "gpu", "bf16"),
        ("auto", "cuda", "cpu", "fp32"),
        ("auto", "mps", "cpu gpu", "fp32"),
        ("bf16", "cpu", "", "bf16"),
        ("bf16", "mps", "", "bf16"),
        ("bf16", "cuda", "gpu", "bf16"),
        # A GPU without bf16 hardware, such as a T4.
        ("bf16", "cuda", "cpu", "fp32"),
        *(("fp32", device, "cpu gpu", "fp32") for device in ("cpu", "cuda", "mps")),
    ],
    indirect=["hardware"],
)
def test_precision(requested: str, device: str, hardware: None, resolved: str) -> None:
    assert resolve_precision(requested, torch.device(device)) == resolved


def test_a_system_without_a_list_of_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_CPU_INFO", tmp_path / "none")
    assert resolve_precision("auto", CPU) == "fp32"


def test_auto_asks_the_hardware_of_this_machine() -> None:
    assert resolve_precision("auto", CPU) in ("bf16", "fp32")


# Features


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_are_float32_on_the_cpu_without_a_graph(trunk: nn.Module, precision: str) -> None:
    features = engine(trunk, precision)(images(5))
    assert features.shape == (5, 512)
    assert features.dtype == torch.float32
    assert features.device == CPU
    assert not features.requires_grad
    assert features.isfinite().all()


def test_fp32_is_the_trunk_itself(trunk: nn.Module) -> None:
    batch = images(3)
    with torch.no_grad():
        expected = trunk(batch)
    torch.testing.assert_close(engine(trunk)(batch), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_convolutions_are_not_rounded_to_tf32(precision: str) -> None:
    """Only a GPU would round them, but the setting is one of the process."""
    allowed = []

    class Asking(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            allowed.append(torch.backends.cudnn.allow_tf32)
            return batch.float().mean(dim=(2, 3))

    before = torch.backends.cudnn.allow_tf32
    engine(Asking(), precision)(images(2))
    assert allowed == [False]
    assert torch.backends.cudnn.allow_tf32 == before


def test_bf16_is_close_to_fp32_and_not_the_same(trunk: nn.Module) -> None:
    batch = images(5)
    exact, rough = engine(trunk)(batch), engine(trunk, "bf16")(batch)
    assert not torch.equal(exact, rough)
    assert float(nn.functional.cosine_similarity(exact, rough).min()) > 0.999
    # Closer than the features of different photos are to each other.
    assert float((exact - rough).norm(dim=1).max()) < float((exact[0] - exact[1]).norm())


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 1e-2)])
def test_the_batch_size_does_not_matter(trunk: nn.Module, precision: str, tolerance: float) -> None:
    batch = images(7)
    whole = engine(trunk, precision, batch_size=7)(batch)
    for size in (1, 3, 100):
        parts = engine(trunk, precision, batch_size=size)(batch)
        torch.testing.assert_close(parts, whole, atol=tolerance * float(whole.abs().max()), rtol=0)
    assert float((whole[0] - whole[1]).abs().max()) > 0.01 * float(whole.abs().max())


def test_no_forward_pass_is_larger_than_the_batch_size() -> None:
    sizes = []

    class Counting(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            sizes.append(len(batch))
            return batch.float().mean(dim=(2, 3))

    features = engine(Counting(), batch_size=3)(images(8))
    assert sizes == [3, 3, 2]
    torch.testing.assert_close(features, images(8).float().mean(dim=(2, 3)))


def test_the_batch_size_may_be_left_open() -> None:
    default, given = engine(nn.Identity(), batch_size=None), engine(nn.Identity(), batch_size=7)
    assert (default.name, given.batch_size) == ("torch", 7)
    assert default.batch_size > 1


def test_threads_take_turns_and_change_nothing(trunk: nn.Module) -> None:
    """Autocast is a state of the thread: each must have its own."""
    running, most = [], []

    class Watched(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            running.append(batch)
            most.append(len(running))
            features: Tensor = trunk(batch)
            running.pop()
            return features

    batch = images(4)
    expected = engine(trunk, "bf16")(batch)
    shared = engine(Watched(), "bf16", workers=4)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(shared, [batch] * 12))
    assert all(torch.equal(features, expected) for features in found)
    assert max(most) == 1


def test_a_trunk_in_training_mode_is_switched_to_evaluation() -> None:
    class Scale(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            return batch / 255

    module = nn.Sequential(Scale(), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    run = engine(module)
    assert not run(images(3)).requires_grad
    assert torch.equal(run(images(3)), run(images(3)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert module.training


def test_the_caller_keeps_its_precision(trunk: nn.Module) -> None:
    engine(trunk, "bf16")(images(1))
    assert not torch.is_autocast_enabled("cpu")
    assert {parameter.dtype for parameter in trunk.parameters()} == {torch.float32}

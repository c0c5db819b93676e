"""Every engine gives the features of the reference, whatever it is given at once and by how many threads."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from dogbreeds.data.transform import Transform
from dogbreeds.errors import ConfigError, EngineError
from dogbreeds.features.engines import Engine, available, build, candidates, key_of, worker_count
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.model.backbones import fingerprint, load_backbone, trunk_of
from dogbreeds.model.names import BACKBONES

pytestmark = pytest.mark.slow

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BATCH = 4


@dataclass(frozen=True)
class Subject:
    """A trunk with all that engines are told of it."""

    layers: nn.Sequential
    transform: Transform

    def engine(self, name: str, **changes: Any) -> Engine:
        settings: dict[str, Any] = {
            "device": CUDA if name == "cuda" else CPU,
            "precision": "fp32",
            "batch_size": BATCH,
            "workers": 1,
            "cache": None,
        }
        return build(name, self.layers, fingerprint(self.layers), self.transform, **(settings | changes))


def subject(
    backbone: str, unfreeze: str | None = None, crop: int = 64, *, mirror: bool = False, library: str = "torchvision"
) -> Subject:
    """A trunk with random weights that takes small images."""
    # Transformers of timm are built for their size.
    size = crop if library == "timm" else None
    loaded = load_backbone(backbone, "random", seed=0, library=library, resolution=size)
    layers = trunk_of(loaded, unfreeze, mirror=mirror).layers
    return Subject(layers, replace(loaded.transform, resize=crop + 8, crop=crop))


@pytest.fixture(scope="module")
def squeezenet() -> Subject:
    return subject("squeezenet1_1")


@pytest.fixture(scope="module")
def resnet() -> Subject:
    return subject("resnet18")


@pytest.fixture(scope="module")
def small() -> Subject:
    """A trunk that takes no time."""
    generator = torch.Generator().manual_seed(0)
    layers = nn.Sequential(Scale(), nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for parameter in layers.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return Subject(layers.eval().requires_grad_(False), Transform(40, 32, "bilinear", (0.5,) * 3, (0.5,) * 3))


class Scale(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float() / 127.5 - 1


def images(number: int, side: int = 64) -> Tensor:
    """Images that differ in colour and in texture."""
    generator = torch.Generator().manual_seed(1)
    colour = torch.rand(number, 3, 1, 1, generator=generator)
    return ((colour + torch.rand(number, 3, side, side, generator=generator)) / 2 * 255).to(torch.uint8)


def cosine(one: Tensor, other: Tensor) -> float:
    """The smallest over the photos; torch's own gives up on very short vectors."""
    one, other = (nn.functional.normalize(features.double().flatten(1), eps=1e-30) for features in (one, other))
    return float((one * other).sum(dim=1).min())


def deviation(features: Tensor, reference: Tensor) -> float:
    """The largest over the photos, as a share of what tells a photo from the average one."""
    features, reference = features.double().flatten(1), reference.double().flatten(1)
    return float(((features - reference).norm(dim=1) / (reference - reference.mean(dim=0)).norm(dim=1)).max())


# --- which engines there are


def without_openvino(name: str) -> None:
    assert name == "openvino"


def test_engines_of_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available(CPU) == ("openvino", "torch")
    monkeypatch.setattr(importlib.util, "find_spec", without_openvino)
    assert available(CPU) == ("torch",)


def test_engines_of_other_devices() -> None:
    assert available(CUDA) == ("cuda", "torch")
    assert available(torch.device("mps")) == ("torch",)


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_auto_leaves_the_choice_open(device: str) -> None:
    assert candidates("auto", torch.device(device)) == available(torch.device(device))
    for name in available(torch.device(device)):
        assert candidates(name, torch.device(device)) == (name,)


@pytest.mark.parametrize(
    ("requested", "device", "said"),
    [
        ("cuda", "cpu", ["features.engine=cuda", "cpu", "openvino or torch, or auto"]),
        ("openvino", "cuda", ["features.engine=openvino", "cuda", "cuda or torch, or auto"]),
        ("cuda", "mps", ["features.engine=cuda", "mps", "torch, or auto"]),
    ],
)
def test_an_engine_that_cannot_run_here(requested: str, device: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        candidates(requested, torch.device(device))
    assert all(words in str(caught.value) for words in said)
    assert "pip install" not in str(caught.value)


def test_openvino_that_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", without_openvino)
    with pytest.raises(ConfigError, match=r"pip install openvino\).* torch, or auto"):
        candidates("openvino", CPU)
    assert candidates("auto", CPU) == ("torch",)


def test_worker_count() -> None:
    assert [worker_count(workers) for workers in (0, 1, 3)] == [1, 1, 3]
    assert 1 <= worker_count(None) <= 16


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not say it")
def test_workers_follow_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers in ((1, 1), (5, 5), (100, 16)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert worker_count(None) == workers


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_an_engine_says_what_it_is(name: str, small: Subject) -> None:
    engine = small.engine(name, workers=2, precision="bf16")
    assert (engine.name, engine.precision, engine.batch_size, engine.workers) == (name, "bf16", BATCH, 2)
    assert small.engine(name, batch_size=None).batch_size > 1


# --- OpenVINO


@pytest.mark.parametrize("name", ["squeezenet", "resnet"])
def test_openvino_gives_the_features_of_torch(name: str, request: pytest.FixtureRequest) -> None:
    subject: Subject = request.getfixturevalue(name)
    batch = images(6)
    reference, features = (subject.engine(engine)(batch) for engine in ("torch", "openvino"))
    assert (features.dtype, features.shape, features.device) == (torch.float32, (6, 512), CPU)
    assert cosine(features, reference) > 0.9999
    assert deviation(features, reference) < 1e-3
    # Photos differ by far more than that.
    assert deviation(features.roll(1, dims=0), reference) > 0.1


@pytest.mark.ci
@pytest.mark.parametrize("name", BACKBONES)
def test_openvino_runs_every_backbone(name: str) -> None:
    crop = 224 if name == "vit_b_16" else 64
    every = subject(name, crop=crop)
    batch = images(3, crop)
    reference, features = (every.engine(engine)(batch) for engine in ("torch", "openvino"))
    assert cosine(features, reference) > 0.9999
    assert deviation(features, reference) < 1e-3


def test_openvino_in_bf16_is_close(resnet: Subject) -> None:
    batch = images(6)
    reference = resnet.engine("torch")(batch)
    rough = resnet.engine("openvino", precision="bf16")(batch)
    assert rough.dtype == torch.float32
    assert cosine(rough, reference) > 0.999


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_do_not_depend_on_batches_or_workers(squeezenet: Subject, precision: str) -> None:
    batch = images(2 * BATCH + 1)
    together = squeezenet.engine("openvino", precision=precision)(batch)
    assert float((together[0] - together[1]).abs().max()) > 0.01 * float(together.abs().max())
    for workers in (1, 3):
        engine = squeezenet.engine("openvino", precision=precision, workers=workers)
        assert torch.equal(engine(batch), together)
        assert torch.equal(torch.cat([engine(one[None]) for one in batch]), together)
        assert torch.equal(engine(batch.flip(0)), together.flip(0))
        with ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(engine, [*batch.split(2)] * 3))
        assert torch.equal(torch.cat(parts), together.repeat(3, 1))


def test_features_stay_when_the_engine_goes_on(small: Subject) -> None:
    """They are no view of memory that the next batch is written to."""
    engine = small.engine("openvino")
    first = engine(images(BATCH, 32))
    kept = first.clone()
    engine(255 - images(BATCH, 32))
    assert torch.equal(first, kept)
    # A head can be trained on them.
    layer = nn.Linear(8, 2)
    layer(first).sum().backward()
    assert layer.weight.grad is not None


def test_images_may_lie_in_memory_as_they_like(small: Subject) -> None:
    engine = small.engine("openvino")
    batch = images(BATCH, 32)
    expected = engine(batch)
    assert torch.equal(engine(batch.to(memory_format=torch.channels_last)), expected)
    assert torch.equal(engine(batch.flip(3).flip(3)), expected)
    wide = images(BATCH, 32).repeat(1, 1, 1, 2)[..., ::2]
    assert torch.equal(engine(wide), engine(wide.contiguous()))
    assert torch.equal(engine(wide[:2]), engine(wide.contiguous())[:2])


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_activations_come_in_half_precision(name: str) -> None:
    before = subject("resnet18", unfreeze="layer4")
    features = before.engine(name)(images(5))
    assert (features.dtype, features.shape) == (torch.float16, (5, 256, 4, 4))
    with torch.inference_mode():
        exact = before.layers(images(5))
    torch.testing.assert_close(features.float(), exact, atol=1e-3 * float(exact.abs().max()), rtol=1e-3)


# --- the converted network is kept


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    return BlobCache(tmp_path / "artefacts")


def no_conversion(*_: object, **__: object) -> None:
    raise AssertionError("the trunk was converted again")


def forbid_conversion(patch: pytest.MonkeyPatch) -> None:
    import openvino

    patch.setattr(openvino, "convert_model", no_conversion)


def test_a_kept_network_gives_the_same_features_without_conversion(
    squeezenet: Subject, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = images(6)
    expected = squeezenet.engine("openvino")(batch)
    assert torch.equal(squeezenet.engine("openvino", cache=cache)(batch), expected)
    forbid_conversion(monkeypatch)
    assert torch.equal(squeezenet.engine("openvino", cache=cache)(batch), expected)
    # Workers and precision are not part of what was kept.
    assert torch.equal(squeezenet.engine("openvino", cache=cache, workers=2)(batch), expected)
    assert cosine(squeezenet.engine("openvino", cache=cache, precision="bf16")(batch), expected) > 0.999


def other_weights(small: Subject) -> Subject:
    changed = nn.Sequential(*small.layers)
    changed[1] = nn.Conv2d(3, 8, 5, stride=4).requires_grad_(False)
    return replace(small, layers=changed)


@pytest.mark.parametrize(
    "change",
    [
        other_weights,
        lambda small: replace(small, transform=replace(small.transform, crop=36)),
        lambda small: replace(small, transform=replace(small.transform, mean=(0.4,) * 3)),
        lambda small: replace(small, transform=replace(small.transform, std=(0.4,) * 3)),
    ],
    ids=["weights", "crop", "mean", "std"],
)
def test_another_trunk_is_converted(
    small: Subject, cache: BlobCache, change: Callable[[Subject], Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    small.engine("openvino", cache=cache)
    forbid_conversion(monkeypatch)
    small.engine("openvino", cache=cache)
    with pytest.raises(EngineError, match="converted again"):
        change(small).engine("openvino", cache=cache)


def test_a_kept_network_serves_other_batch_sizes(
    small: Subject, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = images(6, side=32)
    expected = small.engine("openvino", cache=cache)(batch)
    forbid_conversion(monkeypatch)
    for batch_size in (1, 3):
        found = small.engine("openvino", cache=cache, batch_size=batch_size)(batch)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
@pytest.mark.parametrize("damage", [flip, cut_off, Path.unlink])
def test_a_damaged_network_is_made_again(
    small: Subject,
    cache: BlobCache,
    tmp_path: Path,
    suffix: str,
    damage: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = images(3, 32)
    expected = small.engine("openvino", cache=cache)(batch)
    (path,) = (tmp_path / "artefacts").glob(f"*{suffix}")
    damage(path)
    with monkeypatch.context() as patch:
        forbid_conversion(patch)
        with pytest.raises(EngineError, match="converted again"):
            small.engine("openvino", cache=cache)
    assert torch.equal(small.engine("openvino", cache=cache)(batch), expected)
    forbid_conversion(monkeypatch)
    assert torch.equal(small.engine("openvino", cache=cache)(batch), expected)


# --- OpenVINO stays at home

QUIET = """
import socket, sys
import torch
import dogbreeds.training.run
from dogbreeds.data.transform import Transform
from dogbreeds.features.engines import build

def loaded(package):
    return [name for name, module in sys.modules.items() if module and name.partition(".")[0] == package]

def refuse(*_):
    raise AssertionError("something goes online")

before = loaded("openvino")
socket.socket.connect = refuse
transform = Transform(4, 4, "bilinear", (0.5,) * 3, (0.5,) * 3)
engine = build(
    "openvino", torch.nn.Sequential(torch.nn.Flatten()), "", transform,
    device=torch.device("cpu"), precision="fp32", batch_size=1, workers=1, cache=None,
)
assert engine(torch.ones(1, 3, 4, 4, dtype=torch.uint8)).tolist() == [[1.0] * 48]
print(before, bool(loaded("openvino")), loaded("openvino_telemetry"))
"""


@pytest.mark.ci
def test_openvino_is_imported_when_it_is_used_and_tells_nobody() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[] True []"


# --- the CUDA engine, as far as a processor can show it


def test_the_network_lives_as_long_as_its_graph(resnet: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph replays the addresses of weights and does not keep them alive."""
    from dogbreeds.features.engines import cuda

    recorded: list[weakref.ref[Tensor]] = []

    def record(network: nn.Module, images: Tensor, sizes: Sequence[int], *, exact: bool) -> dict[int, None]:
        recorded.extend(weakref.ref(tensor) for tensor in (*network.parameters(), *network.buffers(), images))
        return dict.fromkeys(sizes)

    monkeypatch.setattr(cuda, "_record", record)
    engine = cuda.CudaEngine(resnet.layers, resnet.transform, CPU, "fp32", BATCH, 1, one_by_one=False)
    gc.collect()
    # With the mean and the deviation of the normalisation.
    assert len(recorded) > 2
    assert all(tensor() is not None for tensor in recorded)
    del engine
    gc.collect()
    assert all(tensor() is None for tensor in recorded)


@pytest.mark.parametrize(
    ("one_by_one", "batch_size", "expected"), [(True, None, (128, 32, 8, 1)), (True, 8, (8, 1)), (False, None, (128,))]
)
def test_only_photos_that_come_one_by_one_need_small_graphs(
    small: Subject, one_by_one: bool, batch_size: int | None, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small batches might give other bits, and stored features have one size. The largest graph makes the memory."""
    from dogbreeds.features.engines import cuda

    recorded: list[tuple[int, ...]] = []

    def record(network: nn.Module, images: Tensor, sizes: Sequence[int], *, exact: bool) -> dict[int, None]:
        assert len(images) == max(sizes)
        recorded.append(tuple(sizes))
        return dict.fromkeys(sizes)

    monkeypatch.setattr(cuda, "_record", record)
    cuda.CudaEngine(small.layers, small.transform, CPU, "fp32", batch_size, 1, one_by_one=one_by_one)
    assert recorded == [expected]


def test_the_smallest_graph_that_fits_is_replayed(small: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor, with a network in place of each graph."""
    from dogbreeds.features.engines import cuda

    replayed: list[int] = []

    def graph(network: nn.Module, images: Tensor) -> tuple[SimpleNamespace, Tensor]:
        features = network(images)

        def replay() -> None:
            replayed.append(len(images))
            features.copy_(network(images))

        return SimpleNamespace(replay=replay), features

    def record(network: nn.Module, images: Tensor, sizes: Sequence[int], *, exact: bool) -> dict[int, object]:
        return {size: graph(network, images[:size]) for size in sizes}

    stream = SimpleNamespace(wait_stream=lambda other: None, synchronize=lambda: None)
    monkeypatch.setattr(cuda, "_record", record)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    engine = cuda.CudaEngine(small.layers, small.transform, CPU, "fp32", None, 1, one_by_one=True)
    batch = images(138, 32)
    expected = small.engine("torch")(batch)
    for count in (1, 138, 8, 9):
        torch.testing.assert_close(engine(batch[:count]), expected[:count], atol=1e-5, rtol=1e-4)
    assert replayed == [1, 128, 32, 8, 32]


def test_features_of_the_cuda_engine_whose_weights_were_freed_are_not_used() -> None:
    assert key_of("cuda", "bf16") != "cuda bf16"
    # Those of the others are.
    assert [key_of(name, "fp32") for name in ("openvino", "torch")] == ["openvino fp32", "torch fp32"]


def test_a_gpu_without_bf16_serves_a_package_in_fp32(
    resnet: Subject, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The package says bf16, as the GPU that it was trained on has it."""
    from dogbreeds.features.engines import cuda

    monkeypatch.setattr(cuda, "CudaEngine", lambda *arguments, one_by_one: arguments)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    with caplog.at_level(logging.INFO):
        arguments = cast(tuple[object, ...], resnet.engine("cuda", precision="bf16"))
    assert "fp32" in arguments and "bf16" not in arguments
    assert "runs in fp32" in caplog.text


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "mobilenet_v3_large",
        "efficientnet_b0",
        *(pytest.param(name, marks=pytest.mark.ci) for name in ("vgg16_bn", "convnext_tiny", "vit_b_16")),
    ],
)
def test_folding_for_the_gpu_leaves_no_batch_norm_and_changes_no_features(name: str) -> None:
    from dogbreeds.features.engines.cuda import _prepare

    every = subject(name, crop=224 if name == "vit_b_16" else 64)
    for module in every.layers.modules():
        if isinstance(module, nn.BatchNorm2d):
            # As it starts, it does nothing.
            nn.init.normal_(cast(Tensor, module.running_mean), std=0.1)
            nn.init.uniform_(cast(Tensor, module.running_var), 0.5, 2.0)
    state = {key: value.clone() for key, value in every.layers.state_dict().items()}
    prepared = _prepare(every.layers, torch.float32)
    assert not [module for module in prepared.modules() if isinstance(module, nn.BatchNorm2d)]
    batch = images(2, every.transform.crop)
    with torch.inference_mode():
        found, expected = prepared(batch), every.layers(batch)
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)
    assert all(torch.equal(value, state[key]) for key, value in every.layers.state_dict().items())


def test_a_trunk_in_bf16_for_the_gpu_is_normalised_in_float32(squeezenet: Subject) -> None:
    from dogbreeds.features.engines.cuda import _prepare

    prepared = _prepare(squeezenet.layers, torch.bfloat16)
    assert {parameter.dtype for parameter in prepared.parameters()} == {torch.bfloat16}
    normalise, cast_ = next(prepared.children()).children()
    assert cast_(normalise(images(2))).dtype == torch.bfloat16
    assert torch.equal(normalise(images(2)), next(squeezenet.layers.children())(images(2)))
    with torch.inference_mode():
        features, reference = prepared(images(4)).float(), squeezenet.layers(images(4))
    assert cosine(features, reference) > 0.999


# --- networks of timm


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_openvino_gives_the_features_of_torch_for_timm(name: str) -> None:
    pytest.importorskip("timm")
    every = subject(name, library="timm")
    batch = images(3)
    expected = every.engine("torch")(batch)
    found = every.engine("openvino")(batch)
    torch.testing.assert_close(found, expected, atol=1e-3 * float(expected.abs().max()), rtol=1e-3)


# --- mirror images


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_a_mirrored_trunk_gives_the_mean_of_photo_and_mirror_image(name: str, resnet: Subject) -> None:
    mirrored, plain = subject("resnet18", mirror=True).engine(name), resnet.engine(name)
    batch = images(6)
    expected = (plain(batch) + plain(batch.flip(-1))) / 2
    torch.testing.assert_close(mirrored(batch), expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)
    assert float((plain(batch) - expected).abs().max()) > 0.01 * float(expected.abs().max())


def test_a_mirrored_trunk_is_another_trunk_of_the_same_weights(resnet: Subject) -> None:
    mirrored = subject("resnet18", mirror=True)
    assert mirrored.layers.state_dict().keys() == resnet.layers.state_dict().keys()
    assert fingerprint(mirrored.layers) != fingerprint(resnet.layers)


def test_folding_for_the_gpu_keeps_the_mirror_image() -> None:
    from dogbreeds.features.engines.cuda import _prepare

    every = subject("resnet18", mirror=True)
    prepared = _prepare(every.layers, torch.float32)
    assert not [module for module in prepared.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.inference_mode():
        found, expected = prepared(images(3)), every.layers(images(3))
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)


# --- the GPU


@pytest.fixture
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return CUDA


def compared(every: Subject, precision: str, crop: int = 64) -> None:
    batch = images(2 * BATCH + 1, crop)
    reference = every.engine("torch")(batch)
    features = every.engine("cuda", precision=precision)(batch)
    assert (features.dtype, features.device, features.shape) == (reference.dtype, CPU, reference.shape)
    assert cosine(features, reference) > (0.9999 if precision == "fp32" else 0.999)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["squeezenet", "resnet"])
def test_cuda_gives_the_features_of_torch(
    name: str, precision: str, gpu: torch.device, request: pytest.FixtureRequest
) -> None:
    compared(request.getfixturevalue(name), precision)


@pytest.mark.gpu
@pytest.mark.ci
@pytest.mark.parametrize("name", BACKBONES)
def test_cuda_runs_every_backbone(name: str, gpu: torch.device) -> None:
    crop = 224 if name == "vit_b_16" else 64
    compared(subject(name, crop=crop), "bf16", crop)


@pytest.mark.gpu
def test_cuda_gives_activations_in_half_precision(gpu: torch.device) -> None:
    compared(subject("resnet18", unfreeze="layer4"), "bf16")


@pytest.mark.gpu
def test_features_on_cuda_do_not_depend_on_batches_or_threads(squeezenet: Subject, gpu: torch.device) -> None:
    batch = images(2 * BATCH + 1)
    engine = squeezenet.engine("cuda", workers=4)
    together = engine(batch)
    assert torch.equal(torch.cat([engine(one[None]) for one in batch]), together)
    assert torch.equal(engine(batch.to(gpu)), together)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(engine, [*batch.split(2)] * 8))
    assert torch.equal(torch.cat(parts), together.repeat(8, 1))


@pytest.mark.gpu
def test_features_on_cuda_stay_the_same_while_others_use_its_memory(squeezenet: Subject, gpu: torch.device) -> None:
    engine = squeezenet.engine("cuda")
    batch = images(BATCH)
    expected = engine(batch)
    gc.collect()
    torch.cuda.empty_cache()
    # Whatever was freed is given out again, and overwritten.
    filled = [torch.full((1 << size,), float("nan"), device=gpu) for size in (8, 12, 16, 20, 22) for _ in range(50)]
    torch.cuda.synchronize()
    assert torch.equal(engine(batch), expected)
    assert len(filled) == 250


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_of_several_sizes_share_memory_and_mix_nothing(
    squeezenet: Subject, precision: str, gpu: torch.device
) -> None:
    engine = squeezenet.engine("cuda", precision=precision, batch_size=None, workers=4, one_by_one=True)
    batch = images(130)
    reference = squeezenet.engine("torch", device=gpu)(batch)
    counts = (130, 1, 33, 8, 2, 32, 9, 128)
    alone = {count: engine(batch[:count]) for count in counts}
    for count, found in alone.items():
        assert cosine(found, reference[:count]) > (0.9999 if precision == "fp32" else 0.999)
    with ThreadPoolExecutor(4) as pool:
        mixed = list(pool.map(lambda count: engine(batch[:count]), counts[::-1] * 8))
    assert all(torch.equal(found, alone[count]) for found, count in zip(mixed, counts[::-1] * 8, strict=True))


@pytest.mark.gpu
def test_torch_on_cuda_computes_fp32_as_a_processor_does(resnet: Subject, gpu: torch.device) -> None:
    """Their features have the same key."""
    batch = images(6)
    found, expected = (resnet.engine("torch", device=device)(batch) for device in (gpu, CPU))
    assert deviation(found, expected) < 1e-4

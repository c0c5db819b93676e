"""The trunk in int8: which photos calibrate it, whose features its own are, and where it does not run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dogbreeds.data.splits import Photo
from dogbreeds.errors import ConfigError, DataError
from dogbreeds.features import int8 as int8_module
from dogbreeds.features.engines import engine_for, key_of
from dogbreeds.features.int8 import Calibration, quantise
from dogbreeds.features.source import FeatureSource
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.model.backbones import Trunk
from tests.features.colours import CPU, colours, paint, trunk

COUNT = 6


class Scale(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float() / 127.5 - 1


def small() -> Trunk:
    """A trunk with something to quantise."""
    generator = torch.Generator().manual_seed(0)
    layers = nn.Sequential(
        Scale(), nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    for parameter in layers.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return trunk(name="small", layers=layers.eval().requires_grad_(False), shape=(16,))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(COUNT)]
    return {paint(path, colour): path for path, colour in zip(paths, colours(COUNT), strict=True)}


def source(store: FeatureStore, calibration: Calibration | None) -> FeatureSource:
    return FeatureSource(
        store,
        small(),
        device=CPU,
        engine="openvino",
        precision="int8" if calibration else "fp32",
        batch_size=None,
        workers=2,
        progress=lambda done, total: None,
        calibration=calibration,
    )


def loaded(of: FeatureSource, files: dict[str, Path]) -> Tensor:
    return of.load(files, {0: list(files)})[0][0].of(list(files)).tensor()


@pytest.fixture
def some_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets tests that quantise nothing run without NNCF."""
    monkeypatch.setattr(int8_module, "version", lambda _: "3.4.0")


@pytest.mark.usefixtures("some_version")
def test_the_photos_are_chosen_by_their_bytes_alone() -> None:
    photos = [
        Photo(path=Path(f"{label}/{number}.jpg"), name="", label=label, digest=f"{37 * number % 101:03}{label}")
        for label in range(4)
        for number in range(100)
    ]
    chosen = Calibration.of(photos)
    moved = [replace(photo, path=Path("elsewhere") / photo.path) for photo in reversed(photos)]
    assert Calibration.of([*moved, photos[0]]).digest == chosen.digest
    assert Calibration.of(photos[:200]).digest != chosen.digest
    of_class = [sum(digest.endswith(str(label)) for digest in chosen.files) for label in range(4)]
    assert of_class == [len(chosen.files) // 4] * 4


@pytest.mark.slow
def test_features_of_int8(store: FeatureStore, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, calibration = loaded(source(store, None), files), Calibration(files)
    first = source(store, calibration)
    found = loaded(first, files)
    assert first.computed == COUNT
    assert 0 < float((found - plain).abs().max()) < 0.05 * float(plain.abs().max())
    # Other photos make another network, and the features of two never mix.
    other = source(store, Calibration(dict(list(files.items())[:2])))
    loaded(other, files)
    assert other.computed == COUNT
    # Quantised anew, it is the same one.
    store.blobs.prune(float("inf"))
    again = quantise(small(), calibration, store.blobs)
    with FeatureStore(store.directory.with_name("another store"), 1e9) as empty:
        assert torch.equal(loaded(source(empty, calibration), files), found)
    monkeypatch.setattr(int8_module, "_quantised", None)
    assert quantise(small(), calibration, store.blobs) == again
    second = source(store, calibration)
    assert torch.equal(loaded(second, files), found)
    assert second.computed == 0


@pytest.mark.usefixtures("some_version")
def test_photos_that_changed_since_they_were_chosen(files: dict[str, Path]) -> None:
    paint(next(iter(files.values())), (1, 2, 3))
    with pytest.raises(DataError, match="has changed"):
        quantise(small(), Calibration(files), None)


def test_the_precision_is_the_last_word_of_a_key() -> None:
    assert key_of("openvino", "int8", "0a") == "openvino 0a int8"


@pytest.mark.parametrize(("requested", "device"), [("torch", "cpu"), ("auto", "cuda"), ("openvino", "mps")])
def test_where_int8_does_not_run(requested: str, device: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)engine={requested} on {device}.*features.precision=bf16"):
        engine_for(requested, "int8", torch.device(device))
    assert engine_for(requested, "bf16", torch.device(device)) == requested
    assert engine_for("auto", "int8", CPU) == "openvino"

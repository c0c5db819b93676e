"""The features of photos: what the store has is served, what it lacks and nothing else is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dogbreeds.data.views import read_view
from dogbreeds.errors import CacheError, ConfigError, DataError, EngineError
from dogbreeds.features import source as source_module
from dogbreeds.features.engines import available, candidates, choose
from dogbreeds.features.engines.reference import TorchEngine
from dogbreeds.features.source import FeatureSource
from dogbreeds.features.store.array import FeatureArray
from dogbreeds.features.store.segments import StoredRows
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.model.backbones import Trunk
from tests.features.colours import CPU, TRANSFORM, ColourEngine, MeanColour, colours, digest, paint, trunk

COUNT = 8
BOTH = ("openvino", "torch")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Digests and photos, one plain colour each."""
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(COUNT)]
    return {paint(path, colour): path for path, colour in zip(paths, colours(COUNT), strict=True)}


class Engines:
    """Takes the place of `build`.

    Attributes:
        names: Of the engines that were started.
        asked: What the last one was started with.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.names: list[str] = []
        self.asked: dict[str, Any] = {}
        self._running: list[ColourEngine] = []

    def build(self, name: str, *_: object, **settings: Any) -> ColourEngine:
        self.names.append(name)
        self.asked = settings
        self._running.append(ColourEngine())
        return self._running[-1]

    @property
    def computed(self) -> list[tuple[int, int, int]]:
        """The colours of all photos that went through any of them."""
        return [colour for engine in self._running for colour in engine.seen]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    """Engines that start at once, both kinds of them."""
    engines = Engines()
    monkeypatch.setattr(source_module, "build", engines.build)

    def both(requested: str, device: torch.device) -> tuple[str, ...]:
        return BOTH if requested == "auto" else (requested,)

    monkeypatch.setattr(source_module, "candidates", both)
    return engines


def source(
    store: FeatureStore,
    of: Trunk | None = None,
    *,
    engine: str = "torch",
    precision: str = "fp32",
    progress: Callable[[int, int], None] = lambda done, total: None,
    **settings: Any,
) -> FeatureSource:
    defaults: dict[str, Any] = {"device": CPU, "batch_size": None, "workers": 2}
    return FeatureSource(
        store, of or trunk(), engine=engine, precision=precision, progress=progress, **(defaults | settings)
    )


Loaded = tuple[dict[int, StoredRows], dict[str, str]]


def load(source: FeatureSource, files: dict[str, Path], views: Sequence[int] = (0,)) -> Loaded:
    return source.load(files, {view: list(files) for view in views})


def served(loaded: Loaded, files: dict[str, Path], view: int = 0) -> Tensor:
    return loaded[0][view].of(list(files)).tensor()


EXPECTED = torch.tensor(colours(COUNT)).float()


# --- what is computed


def test_a_new_store_has_everything_computed(store: FeatureStore, files: dict[str, Path]) -> None:
    """By a real engine, through the whole pass."""
    asked = source(store)
    assert torch.equal(served(load(asked, files), files), EXPECTED)
    assert (asked.computed, asked.photos, asked.engine) == (COUNT, COUNT, "torch")


def test_the_second_request_computes_nothing_and_starts_no_engine(
    store: FeatureStore, files: dict[str, Path], engines: Engines
) -> None:
    load(source(store), files)
    again = source(store)
    assert torch.equal(served(load(again, files), files), EXPECTED)
    assert (again.computed, again.photos) == (0, COUNT)
    assert engines.names == ["torch"]


def test_another_process_computes_nothing_either(files: dict[str, Path], engines: Engines, tmp_path: Path) -> None:
    for _ in range(2):
        with FeatureStore(tmp_path / "kept", 1e9) as store:
            assert torch.equal(served(load(source(store), files), files), EXPECTED)
    assert engines.names == ["torch"]


def test_one_source_starts_one_engine(store: FeatureStore, files: dict[str, Path], engines: Engines) -> None:
    asked = source(store)
    half = dict(list(files.items())[:3])
    load(asked, half)
    found = load(asked, files)
    assert engines.names == ["torch"]
    assert sorted(engines.computed) == sorted(colours(COUNT))
    assert torch.equal(served(found, files), EXPECTED)
    assert (asked.computed, asked.photos) == (COUNT, COUNT)


def test_the_engine_is_started_as_asked(store: FeatureStore, files: dict[str, Path], engines: Engines) -> None:
    load(source(store, precision="bf16", batch_size=7, workers=3), files)
    kept = {"device": CPU, "precision": "bf16", "batch_size": 7, "workers": 3, "cache": store.blobs, "int8": None}
    assert engines.asked == kept
    load(source(store, trunk(fingerprint="1" * 64), workers=0), files)
    assert engines.asked["workers"] == 1


@pytest.fixture
def filled(store: FeatureStore, files: dict[str, Path], engines: Engines) -> Engines:
    """Engines that have not computed anything since the store was filled."""
    load(source(store), files)
    engines.forget()
    return engines


def test_a_changed_photo_is_computed_again_alone(store: FeatureStore, files: dict[str, Path], filled: Engines) -> None:
    old = list(files)[2]
    new = paint(files[old], (9, 9, 9))
    files = {new if photo == old else photo: path for photo, path in files.items()}
    found = served(load(source(store), files), files)
    assert filled.computed == [(9, 9, 9)]
    assert found[2].tolist() == [9, 9, 9]
    assert torch.equal(found[3:], EXPECTED[3:])


def test_a_new_photo_is_computed_alone(
    store: FeatureStore, files: dict[str, Path], filled: Engines, tmp_path: Path
) -> None:
    path = tmp_path / "photos" / "new.png"
    files = {paint(path, (9, 9, 9)): path, **files}
    found = served(load(source(store), files), files)
    assert filled.computed == [(9, 9, 9)]
    assert torch.equal(found[1:], EXPECTED)


def test_moved_photos_and_copies_are_not_computed(
    store: FeatureStore, files: dict[str, Path], filled: Engines, tmp_path: Path
) -> None:
    moved = {photo: path.rename(tmp_path / f"moved {path.name}") for photo, path in files.items()}
    asked = source(store)
    found, _ = asked.load(moved, {0: [*moved, *moved]})
    assert torch.equal(found[0].of([*moved, *moved]).tensor(), EXPECTED.repeat(2, 1))
    assert asked.photos == COUNT
    assert filled.names == []


@pytest.mark.parametrize(
    "other",
    [
        {"of": trunk(fingerprint="1" * 64)},
        {"of": trunk(name="another")},
        *(
            {"of": trunk(transform=replace(TRANSFORM, **change))}
            for change in (
                {"resize": 40},
                {"crop": 30},
                {"interpolation": "bicubic"},
                {"mean": (0.4,) * 3},
                {"std": (0.4,) * 3},
            )
        ),
        {"precision": "bf16"},
        {"engine": "openvino"},
    ],
    ids=["weights", "trunk", "resize", "crop", "interpolation", "mean", "std", "precision", "engine"],
)
def test_what_features_depend_on_has_them_all_computed_again(
    store: FeatureStore, files: dict[str, Path], filled: Engines, other: dict[str, Any]
) -> None:
    asked = source(store, **other)
    load(asked, files)
    assert sorted(filled.computed) == sorted(colours(COUNT))
    assert asked.computed == COUNT
    # And the old ones are still there.
    load(source(store), files)
    load(source(store, **other), files)
    assert len(filled.computed) == COUNT


@pytest.mark.parametrize("other", [{"batch_size": 5}, {"workers": 0}])
def test_what_features_do_not_depend_on_has_nothing_computed(
    store: FeatureStore, files: dict[str, Path], filled: Engines, other: dict[str, Any]
) -> None:
    load(source(store, **other), files)
    assert filled.names == []


def test_progress_is_that_of_all_views_together(store: FeatureStore, files: dict[str, Path], engines: Engines) -> None:
    calls: list[tuple[int, int]] = []
    some = list(files)[:3]
    source(store, progress=lambda done, total: calls.append((done, total))).load(files, {0: list(files), 1: some})
    assert {total for _, total in calls} == {COUNT + 3}
    assert max(done for done, _ in calls) == COUNT + 3


# --- views and activations


def test_each_view_has_features_of_its_own(store: FeatureStore, tmp_path: Path) -> None:
    files = {}
    for seed in range(3):
        path = tmp_path / f"{seed}.png"
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        files[digest(path)] = path
    asked = source(store)
    found = load(asked, files, views=(0, 1, 2))
    assert (asked.computed, asked.photos) == (9, 9)
    for view in (1, 2):
        crops = read_view([path.read_bytes() for path in files.values()], list(files), view, TRANSFORM)
        images = torch.stack([crop for crop in crops if isinstance(crop, Tensor)])
        assert torch.equal(served(found, files, view), MeanColour()(images))
    assert not torch.equal(served(found, files, 0), served(found, files, 1))
    more = source(store)
    load(more, files, views=(0, 1, 2, 3))
    assert (more.computed, more.photos) == (3, 12)


def test_photos_of_a_view_are_served_in_the_order_asked_for(store: FeatureStore, files: dict[str, Path]) -> None:
    photos = list(files)
    found, _ = source(store).load(files, {0: photos[:5], 1: photos[3:]})
    assert torch.equal(found[0].of([photos[4], photos[0]]).tensor(), EXPECTED[[4, 0]])
    assert torch.equal(found[1].of([photos[7], photos[4]]).tensor(), EXPECTED[[7, 4]])


class Map(nn.Module):
    """Activations of shape (3, 2, 2)."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images.float() / 7, 2)


def test_activations_are_kept_in_half_precision(store: FeatureStore, files: dict[str, Path]) -> None:
    of = trunk(layers=nn.Sequential(Map()), shape=(3, 2, 2))
    found = served(load(source(store, of), files), files)
    assert (found.dtype, found.shape) == (torch.float32, (COUNT, 3, 2, 2))
    images = torch.tensor(colours(COUNT), dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 32, 32)
    engine = TorchEngine(of.layers, device=CPU, precision="fp32")
    # Those of a photo that is served from pixels: both are rounded once.
    assert torch.equal(found, engine(images).float())
    assert not torch.equal(found, Map()(images))


# --- what is wrong with photos and with the store


def test_unreadable_photos_are_named_and_not_tried_again(
    store: FeatureStore, files: dict[str, Path], engines: Engines, tmp_path: Path
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not found")
    every = {digest(text): text, **files}
    asked = source(store)
    found = load(asked, every)
    assert found[1] == {digest(text): "not an image"}
    assert torch.equal(served(found, files), EXPECTED)
    assert (asked.computed, asked.photos) == (COUNT, COUNT)
    again = load(source(store), every)
    assert again[1] == found[1]
    assert load(source(store, trunk(fingerprint="1" * 64)), every)[1] == found[1]
    assert len(engines.computed) == 2 * COUNT
    assert engines.names == ["torch", "torch"]


def test_a_photo_that_is_unreadable_under_one_view_is_left_out_of_all(
    store: FeatureStore, files: dict[str, Path], tmp_path: Path
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not found")
    every = {**files, digest(text): text}
    found = load(source(store), every, views=(2, 1, 0))
    assert list(found[1]) == [digest(text)]
    assert {view: len(rows) for view, rows in found[0].items()} == dict.fromkeys((2, 1, 0), COUNT)


def test_a_photo_that_another_source_could_not_read_is_left_out_from_then_on(
    store: FeatureStore, files: dict[str, Path]
) -> None:
    asked = source(store)
    load(asked, files)
    bad, *rest = files
    store.files.remember_unreadable({bad: "damaged"})
    found, unreadable = load(asked, files)
    assert unreadable == {bad: "damaged"}
    assert found[0].digests == rest
    assert asked.computed == COUNT


def test_nothing_but_unreadable_photos(store: FeatureStore, tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not found")
    found = load(source(store), {digest(text): text})
    assert len(found[0][0]) == 0
    assert found[0][0].tensor().shape == (0, 3)


def test_a_photo_that_is_gone(store: FeatureStore, files: dict[str, Path]) -> None:
    files[list(files)[3]].unlink()
    with pytest.raises(DataError, match="can no longer be read"):
        load(source(store, workers=1), files)


def damage(store: FeatureStore, place: int) -> None:
    """Changes one byte of the only segment."""
    (path,) = (store.directory / "segments").iterdir()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_damaged_row_is_computed_again_alone(
    store: FeatureStore, files: dict[str, Path], engines: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    asked = source(store)
    load(asked, files)
    damage(store, -3)
    found = load(asked, files)
    assert torch.equal(served(found, files), EXPECTED)
    assert len(engines.computed) == COUNT + 1
    assert "1 stored features are damaged and will be recomputed" in caplog.text
    load(source(store), files)
    assert len(engines.computed) == COUNT + 1


def test_a_disk_that_damages_everything_is_named(
    store: FeatureStore, files: dict[str, Path], engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = FeatureArray.read

    def damaging(self: FeatureArray, photos: Sequence[str]) -> StoredRows | None:
        for path in (store.directory / "segments").iterdir():
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        return read(self, photos)

    monkeypatch.setattr(FeatureArray, "read", damaging)
    with pytest.raises(CacheError, match="does not keep what is written") as caught:
        load(source(store), files)
    assert str(store.directory) in str(caught.value)


def test_features_that_do_not_fit_are_refused_before_anything_runs(
    files: dict[str, Path], engines: Engines, tmp_path: Path
) -> None:
    with FeatureStore(tmp_path / "small", 200) as store, pytest.raises(CacheError, match=r"cache\.max_gb"):
        load(source(store), files)
    assert engines.names == []


# --- the engine


def test_an_engine_that_cannot_run_here_is_refused_before_anything_runs(
    store: FeatureStore, files: dict[str, Path], engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "candidates", candidates)
    with pytest.raises(ConfigError, match=r"features\.engine=cuda does not run on cpu"):
        load(source(store, engine="cuda"), files)
    assert engines.names == []


@pytest.mark.parametrize("engine", ["auto", "cuda"])
def test_features_of_an_engine_that_cannot_run_here_serve_as_well(
    store: FeatureStore, files: dict[str, Path], engines: Engines, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Those that a machine with a GPU computed, for trials on one without."""
    monkeypatch.setattr(source_module, "available", lambda device: ("cuda", "torch"))
    load(source(store, engine="cuda"), files)
    monkeypatch.setattr(source_module, "available", available)
    here = source(store, engine=engine)
    assert torch.equal(served(load(here, files), files), EXPECTED)
    assert (here.engine, here.computed, engines.names) == ("cuda", 0, ["cuda"])


def test_one_missing_photo_has_all_computed_by_what_runs_here(
    store: FeatureStore, files: dict[str, Path], engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "available", lambda device: ("cuda", "torch"))
    load(source(store, engine="cuda"), dict(list(files.items())[1:]))
    monkeypatch.setattr(source_module, "available", available)
    here = source(store, engine="auto")
    assert torch.equal(served(load(here, files), files), EXPECTED)
    assert here.engine in BOTH and here.computed == COUNT


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ({"openvino": 0, "torch": 0}, "openvino"),
        ({"openvino": 199, "torch": 199}, "torch"),
        ({"openvino": 200, "torch": 200}, "openvino"),
        ({"openvino": 100, "torch": 0}, "torch"),
        ({"openvino": 1000, "torch": 10}, "torch"),
        ({"openvino": 9025, "torch": 8897}, "openvino"),
        ({"openvino": 10, "torch": 1000}, "openvino"),
        ({"openvino": 0, "torch": 10}, "openvino"),
        ({"cuda": 10, "torch": 10}, "torch"),
        ({"cuda": 9000, "torch": 9000}, "cuda"),
        ({"torch": 9000}, "torch"),
    ],
)
def test_choice_of_the_engine(missing: dict[str, int], expected: str) -> None:
    assert choose(missing) == expected


def test_auto_takes_the_features_that_are_there(store: FeatureStore, files: dict[str, Path], engines: Engines) -> None:
    load(source(store, engine="openvino"), files)
    asked = source(store, engine="auto")
    load(asked, files)
    assert asked.engine == "openvino"
    other = trunk(fingerprint="1" * 64)
    load(source(store, other, engine="torch"), files)
    asked = source(store, other, engine="auto")
    load(asked, files)
    assert asked.engine == "torch"
    assert engines.names == ["openvino", "torch"]


def test_auto_computes_one_more_photo_with_the_engine_of_the_others(
    store: FeatureStore, files: dict[str, Path], engines: Engines, tmp_path: Path
) -> None:
    load(source(store, engine="torch"), files)
    path = tmp_path / "photos" / "new.png"
    asked = source(store, engine="auto")
    load(asked, {**files, paint(path, (9, 9, 9)): path})
    assert asked.engine == "torch"
    assert engines.computed[-1] == (9, 9, 9)
    assert len(engines.computed) == COUNT + 1


def test_the_choice_is_kept_for_later_requests(store: FeatureStore, files: dict[str, Path], engines: Engines) -> None:
    asked = source(store, engine="auto")
    first = dict(list(files.items())[:1])
    load(asked, first)
    assert asked.engine == "torch"
    load(asked, files, views=range(30))
    assert (asked.engine, engines.names) == ("torch", ["torch"])
    fresh = source(store, trunk(fingerprint="1" * 64), engine="auto")
    load(fresh, files, views=range(30))
    assert fresh.engine == "openvino"


def test_an_engine_that_does_not_start_is_replaced(
    store: FeatureStore,
    files: dict[str, Path],
    engines: Engines,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def build(name: str, *arguments: object, **settings: Any) -> ColourEngine:
        if name == "openvino":
            raise EngineError("features.engine=openvino does not start here (no such instruction).")
        return engines.build(name, *arguments, **settings)

    monkeypatch.setattr(source_module, "build", build)
    monkeypatch.setattr(source_module, "choose", lambda missing: next(iter(missing)))
    automatic = source(store, engine="auto")
    found = load(automatic, files)
    assert torch.equal(served(found, files), EXPECTED)
    assert automatic.engine == "torch"
    assert "no such instruction" in caplog.text
    with pytest.raises(EngineError, match="no such instruction"):
        load(source(store, engine="openvino"), files)

"""Features come in the order of the photos, and from the cache only where it holds these very ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from dogbreeds.data.folders import Photo
from dogbreeds.data.images import Transform
from dogbreeds.features import extract as extraction
from dogbreeds.features.engines.reference import TorchEngine
from dogbreeds.features.extract import Features, cache_key, extract, pixels

TRANSFORM = Transform(resize=36, crop=32, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
COUNT = 7
COLOURS = torch.tensor([(number * 30, 250 - number * 20, number) for number in range(COUNT)])


class MeanColour(nn.Module):
    """The least that can be called a trunk: (N, 3) for uint8 (N, 3, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean(dim=(2, 3))


class Engine(TorchEngine):
    """Runs `MeanColour`, and fails after as many batches as it is given."""

    def __init__(self, batch_size: int = 3, fails_after: int = 99) -> None:
        super().__init__(MeanColour(), device=torch.device("cpu"), precision="fp32", batch_size=batch_size)
        self.left = fails_after

    def __call__(self, images: Tensor) -> Tensor:
        if not self.left:
            raise RuntimeError("the trunk was run")
        self.left -= 1
        features: Tensor = super().__call__(images)
        return features


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    """One plain colour each; the names sort the other way round."""
    found = []
    for number, colour in enumerate(COLOURS.tolist()):
        path = tmp_path / f"{COUNT - number}.png"
        Image.new("RGB", (48, 40), tuple(colour)).save(path)
        found.append(Photo(path, label=number % 3, digest=f"{number:064d}"))
    return found


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "train.safetensors"


def run(
    photos: list[Photo],
    cache: Path | None = None,
    *,
    engine: Engine | None = None,
    key: str = "key",
    workers: int = 0,
) -> Features:
    return extract(
        photos,
        engine or Engine(),
        TRANSFORM,
        workers=workers,
        key=key,
        cache=cache,
        progress=lambda done, total: None,
    )


def never() -> Engine:
    return Engine(fails_after=0)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_rows_follow_the_photos(photos: list[Photo], batch_size: int, workers: int) -> None:
    found = run(photos, engine=Engine(batch_size), workers=workers)
    assert torch.equal(found.values, COLOURS.float())
    assert (found.values.dtype, found.labels.dtype) == (torch.float32, torch.int64)
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert (found.computed, found.reused) == (COUNT, 0)


def test_rows_follow_another_order(photos: list[Photo]) -> None:
    found = run(photos[::-1])
    assert torch.equal(found.values, COLOURS.flip(0).float())
    assert found.labels.tolist() == [0, 2, 1, 0, 2, 1, 0]


@pytest.mark.parametrize("kept", [False, True])
def test_a_head_can_be_trained_on_the_features(photos: list[Photo], cache: Path, kept: bool) -> None:
    if kept:
        run(photos, cache)
    head = nn.Linear(3, 2)
    head(run(photos, cache).values).sum().backward()
    assert head.weight.grad is not None


@pytest.mark.parametrize("workers", [0, 2])
def test_pixels(photos: list[Photo], workers: int) -> None:
    batches = list(pixels([photo.path for photo in photos], TRANSFORM, 3, workers))
    assert [tuple(batch.shape) for batch in batches] == [(3, 3, 32, 32), (3, 3, 32, 32), (1, 3, 32, 32)]
    assert all(batch.dtype == torch.uint8 for batch in batches)
    assert torch.equal(torch.cat(batches)[:, :, 5, 5].long(), COLOURS)


@pytest.mark.parametrize("workers", [0, 2])
def test_photo_that_went_away(photos: list[Photo], cache: Path, workers: int) -> None:
    photos[4].path.unlink()
    with pytest.raises(FileNotFoundError, match=photos[4].path.name):
        run(photos, cache, workers=workers)
    assert not cache.exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_progress_reaches_the_total(photos: list[Photo], workers: int) -> None:
    calls: list[tuple[int, int]] = []
    extract(
        photos,
        Engine(),
        TRANSFORM,
        workers=workers,
        key="key",
        cache=None,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(3, 7), (6, 7), (7, 7)]


def test_cache_is_reused(photos: list[Photo], cache: Path) -> None:
    first = run(photos, cache)
    again = run(photos, cache, engine=never())
    assert torch.equal(again.values, first.values)
    assert torch.equal(again.labels, first.labels)
    assert (again.computed, again.reused) == (0, COUNT)


def test_no_cache_keeps_nothing(photos: list[Photo], tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    run(photos)
    assert set(tmp_path.rglob("*")) == before


def test_another_key_is_computed_again(photos: list[Photo], cache: Path) -> None:
    run(photos, cache)
    with pytest.raises(RuntimeError, match="the trunk was run"):
        run(photos, cache, key="another", engine=never())
    assert run(photos[:2], cache, key="another").computed == 2
    # The new ones took the place of the old ones.
    assert len(run(photos[:2], cache, key="another", engine=never()).values) == 2
    assert run(photos, cache).computed == COUNT


def damage(content: bytes, kind: str) -> bytes:
    if kind.startswith("cut"):
        return content[: int(kind.removeprefix("cut to "))]
    if kind == "short":
        return content[:-1]
    old, new = {
        "key": (b'"key":"key"', b'"key":"kez"'),
        "name of the key": (b'"key":', b'"kez":'),
        "name of the metadata": (b"__metadata__", b"__metadatb__"),
        "name of the tensor": (b'"features"', b'"featurez"'),
        "shape": (b"[7,3]", b"[8,3]"),
        "text": (content, b"this is no safetensors file"),
    }[kind]
    assert content.count(old) == 1
    return content.replace(old, new)


@pytest.mark.parametrize(
    "kind",
    [
        "cut to 0",
        "cut to 5",
        "cut to 40",
        "short",
        "key",
        "name of the key",
        "name of the metadata",
        "name of the tensor",
        "shape",
        "text",
    ],
)
def test_damaged_cache_is_computed_again(photos: list[Photo], cache: Path, kind: str) -> None:
    first = run(photos, cache)
    cache.write_bytes(damage(cache.read_bytes(), kind))
    again = run(photos, cache)
    assert again.computed == COUNT
    assert torch.equal(again.values, first.values)
    # And the damage is repaired.
    assert run(photos, cache, engine=never()).reused == COUNT


def test_file_of_another_program_is_computed_again(photos: list[Photo], cache: Path) -> None:
    cache.parent.mkdir()
    save_file({"features": torch.zeros(COUNT, 3)}, cache)
    assert torch.equal(run(photos, cache).values, COLOURS.float())


def test_writing_leaves_the_cache_and_nothing_else(photos: list[Photo], cache: Path) -> None:
    run(photos, cache)
    run(photos, cache, key="another")
    assert list(cache.parent.iterdir()) == [cache]


def test_interrupted_pass_keeps_what_was_there(photos: list[Photo], cache: Path) -> None:
    with pytest.raises(RuntimeError, match="the trunk was run"):
        run(photos, cache, engine=Engine(fails_after=1))
    assert not cache.exists()
    run(photos, cache)
    with pytest.raises(RuntimeError, match="the trunk was run"):
        run(photos, cache, key="another", engine=Engine(fails_after=1))
    assert run(photos, cache, engine=never()).reused == COUNT


def test_interrupted_writing_keeps_what_was_there(
    photos: list[Photo], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, cache)

    def full_disk(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half a file")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(extraction, "save_file", full_disk)
        with pytest.raises(OSError, match="No space left"):
            run(photos, cache, key="another")
    assert run(photos, cache, engine=never()).reused == COUNT


def test_key_names_all_that_the_features_depend_on(photos: list[Photo]) -> None:
    key = cache_key(photos, "trunk", TRANSFORM, "fp32")
    assert key == cache_key(list(photos), "trunk", replace(TRANSFORM), "fp32")
    transforms = [
        replace(TRANSFORM, resize=40),
        replace(TRANSFORM, crop=30),
        replace(TRANSFORM, interpolation="bicubic"),
        replace(TRANSFORM, mean=(0.4,) * 3),
        replace(TRANSFORM, std=(0.4,) * 3),
    ]
    others = [
        cache_key(photos[::-1], "trunk", TRANSFORM, "fp32"),
        cache_key(photos[:-1], "trunk", TRANSFORM, "fp32"),
        cache_key([*photos[:-1], replace(photos[-1], digest="f" * 64)], "trunk", TRANSFORM, "fp32"),
        cache_key(photos, "another", TRANSFORM, "fp32"),
        cache_key(photos, "trunk", TRANSFORM, "bf16"),
        *(cache_key(photos, "trunk", transform, "fp32") for transform in transforms),
    ]
    assert len({key, *others}) == 1 + len(others)


def test_key_does_not_depend_on_where_the_photos_lie(photos: list[Photo]) -> None:
    moved = [replace(photo, path=Path("/elsewhere") / photo.path.name) for photo in photos]
    assert cache_key(moved, "trunk", TRANSFORM, "fp32") == cache_key(photos, "trunk", TRANSFORM, "fp32")

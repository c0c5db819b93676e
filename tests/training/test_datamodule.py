"""Batches of breed folders: their order, their share per rank, and whose features are in them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn

from dogbreeds.data.images import decode
from dogbreeds.data.views import read_view
from dogbreeds.errors import DataError
from dogbreeds.features.source import FeatureSource
from dogbreeds.features.store.segments import StoredRows
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.model.backbones import Trunk
from dogbreeds.training.datamodule import BreedDataModule, EpochBatches
from dogbreeds.training.features import Features, RunFeatures, load_splits
from tests.features.colours import CPU, TRANSFORM, trunk

CLASSES = ("akita", "beagle", "collie")
PER_CLASS = {"train": 4, "valid": 3, "test": 1}


def paint(file: Path) -> None:
    """Noise of the file's own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(hashlib.sha256("/".join(file.parts[-3:]).encode()).digest()[:4], "big")
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for split, count in PER_CLASS.items():
        for name in CLASSES:
            for number in range(count):
                paint(root / split / name / f"{number}.png")
    return root


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    with FeatureStore(tmp_path / "store", 1e9) as opened:
        yield opened


class Corners(nn.Module):
    """Activations of shape (3, 2, 2)."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images.float(), 2)


ACTIVATIONS = trunk(layers=nn.Sequential(Corners()), shape=(3, 2, 2), fingerprint="a" * 64)


def source(store: FeatureStore, of: Trunk | None = None) -> FeatureSource:
    return FeatureSource(
        store,
        of or trunk(),
        device=CPU,
        engine="torch",
        precision="fp32",
        batch_size=5,
        workers=0,
        progress=lambda done, total: None,
    )


def module(photos: Path, store: FeatureStore, **settings: Any) -> BreedDataModule:
    data = BreedDataModule(photos, **({"batch_size": 5, "workers": 0} | settings))
    data.index(store)
    return data


def obtain(data: BreedDataModule, asked: FeatureSource, views: range | tuple[int, ...] = (0,)) -> dict[str, Features]:
    """Gives the data module features of a trunk that is no backbone."""
    data.folders, found = load_splits(data.folders, asked, views)
    data.features = RunFeatures(found, found, "torch", "fp32", computed=0, reused=0, weights="")
    return found


def filled(
    photos: Path, store: FeatureStore, views: range | tuple[int, ...] = (0,), **settings: Any
) -> BreedDataModule:
    data = module(photos, store, **settings)
    obtain(data, source(store), views)
    return data


def colours(data: BreedDataModule, split: str, view: int = 0) -> Tensor:
    """What the trunk makes of the photos of a split, without any of the code in between."""
    contents = [photo.path.read_bytes() for photo in data.folders.splits[split]]
    digests = [photo.digest for photo in data.folders.splits[split]]
    images = read_view(contents, digests, view, TRANSFORM) if view else [TRANSFORM(decode(one)) for one in contents]
    return torch.stack([image.float().mean(dim=(1, 2)) for image in images if isinstance(image, Tensor)])


def order(length: int, size: int, epoch: int, seed: int = 0) -> list[list[int]]:
    return positions(EpochBatches(length, size, seed=seed, shuffle=True), epoch)


def positions(batches: EpochBatches, epoch: int = 0) -> list[list[int]]:
    batches.set_epoch(epoch)
    return [batch.tolist() for batch in batches]


def flat(batches: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


def train_batches(data: BreedDataModule, epoch: int) -> list[tuple[Tensor, Tensor]]:
    loader = data.train_dataloader()
    assert isinstance(loader.sampler, EpochBatches)
    loader.sampler.set_epoch(epoch)
    return list(loader)


def valid_batches(data: BreedDataModule) -> list[tuple[Tensor, Tensor]]:
    return list(data.val_dataloader())


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return all(
        torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
        for first, second in zip(one, other, strict=True)
    )


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, ranks: int) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: ranks)


# --- the order of the batches


def test_every_photo_once_and_a_smaller_last_batch() -> None:
    found = order(23, 5, epoch=0)
    assert [len(batch) for batch in found] == [5, 5, 5, 5, 3]
    assert sorted(flat(found)) == list(range(23))
    assert flat(found) != list(range(23))


@pytest.mark.parametrize(("length", "size", "batches"), [(20, 5, 4), (21, 5, 5), (3, 5, 1), (5, 5, 1), (1, 1, 1)])
def test_number_of_batches(length: int, size: int, batches: int) -> None:
    sampler = EpochBatches(length, size, shuffle=True)
    assert len(sampler) == len(list(sampler)) == batches


def test_order_depends_on_seed_and_epoch_alone() -> None:
    orders = [order(50, 8, epoch, seed=3) for epoch in range(4)]
    assert all(orders[0] != other for other in orders[1:])
    # A resumed run makes a new sampler, in another state of the global generator.
    torch.manual_seed(12345)
    assert order(50, 8, 2, seed=3) == orders[2]
    assert order(50, 8, 2, seed=4) != orders[2]
    # Neighbouring seeds and epochs do not share an order.
    assert order(50, 8, 1, seed=4) != orders[2]


def test_without_shuffling_the_order_is_that_of_the_index() -> None:
    batches = EpochBatches(7, 3, seed=9)
    assert positions(batches, 0) == positions(batches, 5) == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_every_batch(monkeypatch: pytest.MonkeyPatch, ranks: int, shuffle: bool) -> None:
    alone = positions(EpochBatches(22, 6, seed=1, shuffle=shuffle), 2)
    shares = []
    for rank in range(ranks):
        as_rank(monkeypatch, rank, ranks)
        shares.append(positions(EpochBatches(22, 6, seed=1, shuffle=shuffle), 2))
        assert len(shares[-1]) == 4
    for number, batch in enumerate(alone):
        parts = [share[number] for share in shares]
        assert sorted(flat(parts)) == sorted(batch)
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_no_rank_gets_an_empty_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    last = order(13, 6, epoch=0, seed=1)[-1]
    assert len(last) == 1
    for rank in range(2):
        as_rank(monkeypatch, rank, 2)
        batches = EpochBatches(13, 6, seed=1, shuffle=True)
        assert [len(batch) for batch in positions(batches)] == [3, 3, 1]
        assert positions(batches)[-1] == last


class Recorder(pl.LightningModule):
    """Keeps the values of the batches that Lightning brings."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: dict[int, list[Tensor]] = {}

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        self.seen.setdefault(self.current_epoch, []).append(batch[0])
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")
def test_lightning_shuffles_anew_and_turns_to_the_next_view_in_each_epoch(
    photos: Path, store: FeatureStore, tmp_path: Path
) -> None:
    data, recorder = filled(photos, store, views=(1, 2)), Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(recorder, datamodule=data)
    for epoch, view in enumerate((1, 2, 1)):
        features = colours(data, "train", view)
        assert all(
            torch.equal(seen, features[rows])
            for seen, rows in zip(recorder.seen[epoch], order(12, 5, epoch), strict=True)
        )


# --- what is in the batches


def test_features_of_all_splits_in_the_order_of_the_index(photos: Path, store: FeatureStore) -> None:
    data = filled(photos, store)
    for split, count in PER_CLASS.items():
        found = data.features.inputs[split]
        assert torch.equal(found.tensor, colours(data, split))
        assert found.labels.tolist() == [0] * count + [1] * count + [2] * count
        assert (found.tensor.dtype, found.labels.dtype) == (torch.float32, torch.int64)


def test_batches_are_rows_of_the_features(photos: Path, store: FeatureStore) -> None:
    data = filled(photos, store)
    train = data.features.inputs["train"]
    batches = train_batches(data, 3)
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    for (values, labels), rows in zip(batches, order(12, 5, 3), strict=True):
        assert torch.equal(values, train.tensor[rows])
        assert torch.equal(labels, train.labels[rows])
    values, labels = (torch.cat(parts) for parts in zip(*valid_batches(data), strict=True))
    assert torch.equal(values, data.features.inputs["valid"].tensor)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_activations_come_batch_by_batch_from_their_files(photos: Path, store: FeatureStore) -> None:
    data = module(photos, store)
    obtain(data, source(store, ACTIVATIONS))
    train = data.features.inputs["train"]
    assert isinstance(train.values, StoredRows)
    assert train.tensor.shape == (12, 3, 2, 2)
    torch.testing.assert_close(train.tensor.mean(dim=(2, 3)), colours(data, "train"), atol=0.1, rtol=0)
    for (values, labels), rows in zip(train_batches(data, 1), order(12, 5, 1), strict=True):
        assert values.dtype == torch.float32
        assert torch.equal(values, train.tensor[rows])
        assert torch.equal(labels, train.labels[rows])


@pytest.mark.parametrize("of", [trunk(), ACTIVATIONS], ids=["vectors", "activations"])
def test_features_for_a_device(photos: Path, store: FeatureStore, of: Trunk) -> None:
    data = module(photos, store)
    features = obtain(data, source(store, of))["train"]
    moved = features.to(torch.device("cpu"))
    assert isinstance(moved, Features)
    assert torch.equal(moved.tensor, features.tensor)
    assert torch.equal(moved.labels, features.labels)


# --- views


@pytest.mark.parametrize("count", [1, 2, 3])
def test_epochs_take_turns_with_the_views(photos: Path, store: FeatureStore, count: int) -> None:
    data = filled(photos, store, views=range(1, count + 1))
    expected = {view: colours(data, "train", view) for view in range(1, count + 1)}
    for epoch in range(5):
        rows = flat(order(12, 5, epoch))
        values = torch.cat([values for values, _ in train_batches(data, epoch)])
        assert torch.equal(values, expected[1 + epoch % count][rows])


def test_validation_and_test_photos_are_seen_as_evaluation_sees_them(photos: Path, store: FeatureStore) -> None:
    data = filled(photos, store, views=(1, 2))
    assert torch.equal(torch.cat([values for values, _ in valid_batches(data)]), colours(data, "valid"))
    assert torch.equal(data.features.inputs["test"].tensor, colours(data, "test"))
    assert not torch.equal(data.features.inputs["train"].tensor, colours(data, "train"))


def test_only_what_is_needed_of_each_view_is_computed(photos: Path, store: FeatureStore) -> None:
    data = module(photos, store)
    asked = source(store)
    obtain(data, asked, (1, 2))
    assert asked.computed == 2 * 12 + 9 + 3
    again = source(store)
    obtain(data, again)
    assert again.computed == 12


# --- folders and features


def test_settings_reach_the_index(store: FeatureStore, tmp_path: Path) -> None:
    root = tmp_path / "flat"
    for name in CLASSES:
        for number in range(20):
            paint(root / name / f"{number}.png")
    first, second = (module(root, store, split_seed=seed).folders for seed in (0, 1))
    assert first.splits["test"] != second.splits["test"]
    (root / "akita/bad.jpg").write_bytes(b"")
    data = module(root, store, on_bad_image="stop")
    assert len(data.folders.unreadable) == 1
    with pytest.raises(DataError, match=r"bad\.jpg"):
        data.folders.check(data.on_bad_image)


def test_the_second_module_computes_nothing(photos: Path, store: FeatureStore) -> None:
    first = filled(photos, store)
    asked = source(store)
    again = obtain(module(photos, store, batch_size=3, seed=9), asked)
    assert asked.computed == 0
    for split, found in again.items():
        assert torch.equal(found.tensor, first.features.inputs[split].tensor)


def test_a_changed_photo_is_computed_alone(photos: Path, store: FeatureStore, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    filled(root, store)
    Image.new("RGB", (40, 40), (1, 2, 3)).save(root / "valid/akita/0.png")
    asked = source(store)
    data = module(root, store)
    again = obtain(data, asked)
    assert asked.computed == 1
    assert again["valid"].tensor[0].tolist() == [1, 2, 3]
    assert torch.equal(again["valid"].tensor, colours(data, "valid"))


def test_copies_in_several_splits_have_the_same_features(photos: Path, store: FeatureStore, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    shutil.copy(root / "train/akita/0.png", root / "valid/akita/0.png")
    asked = source(store)
    data = module(root, store)
    found = obtain(data, asked)
    assert asked.computed == 23
    assert torch.equal(found["valid"].tensor[0], found["train"].tensor[0])
    assert len(data.folders.leaks) == 1


# --- photos that cannot be decoded


@pytest.fixture
def damaged(photos: Path, tmp_path: Path) -> Path:
    """Folders with one photo in each split that begins well."""
    root = tmp_path / "damaged"
    shutil.copytree(photos, root)
    paint(root / "test/akita/1.png")
    for name in ("train/akita/1.png", "valid/beagle/2.png", "test/akita/1.png"):
        spoil(root / name)
    return root


def spoil(path: Path) -> None:
    """Damages a photo so that only decoding shows it."""
    content = path.read_bytes()
    start = content.index(b"IDAT") + 4
    path.write_bytes(content[:start] + bytes(8) + content[start + 8 :])


def test_photos_that_cannot_be_decoded_stop_the_run(damaged: Path, store: FeatureStore) -> None:
    data = module(damaged, store, on_bad_image="stop")
    data.folders.check(data.on_bad_image)
    asked = source(store)
    obtain(data, asked)
    # The others were computed, and the next run says so at once.
    assert asked.computed == 22
    for known in (data, module(damaged, store, on_bad_image="stop")):
        with pytest.raises(DataError, match="3 of 25 photos") as caught:
            known.folders.check(known.on_bad_image)
        assert "valid/beagle/2.png" in str(caught.value)


def test_photos_that_cannot_be_decoded_are_left_out(damaged: Path, store: FeatureStore) -> None:
    data = module(damaged, store)
    assert data.folders.counts() == {"train": 12, "valid": 9, "test": 4}
    obtain(data, source(store))
    assert data.folders.counts() == {"train": 11, "valid": 8, "test": 3}
    assert len(data.folders.unreadable) == 3
    for split in PER_CLASS:
        assert torch.equal(data.features.inputs[split].tensor, colours(data, split))
        assert data.features.inputs[split].labels.tolist() == [photo.label for photo in data.folders.splits[split]]
    assert [len(labels) for _, labels in train_batches(data, 0)] == [5, 5, 1]
    # The next run knows it from the start, and has the same photos in the same order.
    again = module(damaged, store)
    assert again.folders == data.folders
    asked = source(store)
    assert torch.equal(obtain(again, asked)["train"].tensor, data.features.inputs["train"].tensor)
    assert asked.computed == 0


def test_photos_that_cannot_be_decoded_are_left_out_of_all_views(damaged: Path, store: FeatureStore) -> None:
    data = filled(damaged, store, views=(1, 2))
    assert [len(view) for view in data.features.inputs["train"].views] == [11, 11]
    for view in (1, 2):
        values = torch.cat([values for values, _ in train_batches(data, view - 1)])
        assert torch.equal(values, colours(data, "train", view)[flat(order(11, 5, view - 1))])


def test_a_class_of_which_nothing_can_be_decoded(photos: Path, store: FeatureStore, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    spoil(root / "test/collie/0.png")
    data = module(root, store)
    obtain(data, source(store))
    with pytest.raises(DataError, match="test: collie"):
        data.folders.check(data.on_bad_image)


# --- one batch


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (2, {"train": [1, 1, 0], "valid": [1, 1, 0], "test": [1, 1, 0]}),
        (3, {"train": [1, 1, 1], "valid": [1, 1, 1], "test": [1, 1, 1]}),
        (7, {"train": [3, 2, 2], "valid": [3, 2, 2], "test": [1, 1, 1]}),
        (99, {"train": [4, 4, 4], "valid": [3, 3, 3], "test": [1, 1, 1]}),
    ],
)
def test_one_batch_is_spread_over_the_classes(
    photos: Path, store: FeatureStore, size: int, expected: dict[str, list[int]]
) -> None:
    data = filled(photos, store, batch_size=size, one_batch=True)
    assert {split: data.folders.class_counts(split) for split in PER_CLASS} == expected
    assert data.folders.classes == CLASSES
    for batches, split in ((train_batches(data, 0), "train"), (valid_batches(data), "valid")):
        ((values, labels),) = batches
        assert len(values) == len(labels) == sum(expected[split])
        assert torch.bincount(labels, minlength=3).tolist() == expected[split]


def test_one_batch_computes_no_other_photos(photos: Path, store: FeatureStore) -> None:
    asked = source(store)
    obtain(module(photos, store, batch_size=2, one_batch=True), asked)
    assert asked.computed == 6

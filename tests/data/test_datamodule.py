"""Batches of breed folders: their order, their share per rank, and what is in them."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn

from dogbreeds.data.datamodule import BreedDataModule, EpochBatches, Rows
from dogbreeds.data.images import Transform, decode
from dogbreeds.errors import DataError
from dogbreeds.features.engines.reference import TorchEngine
from dogbreeds.features.extract import Features

TRANSFORM = Transform(resize=36, crop=32, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
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


class MeanColour(nn.Module):
    """The least that can be called a trunk: (N, 3) for uint8 (N, 3, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean(dim=(2, 3))


class NoEngine(TorchEngine):
    """Fails when it is asked for features."""

    def __call__(self, images: Tensor) -> Tensor:
        raise AssertionError("the trunk was run")


def engine(kind: type[TorchEngine] = TorchEngine) -> TorchEngine:
    return kind(MeanColour(), device=torch.device("cpu"), precision="fp32", batch_size=5)


def no_progress(done: int, total: int) -> None:
    pass


def module(photos: Path, **settings: Any) -> BreedDataModule:
    defaults: dict[str, Any] = {
        "batch_size": 5,
        "seed": 0,
        "on_bad_image": "stop",
        "split_seed": 0,
        "workers": 0,
        "augment": False,
        "train_on_pixels": False,
        "validate_on_pixels": False,
        "one_batch": False,
    }
    data = BreedDataModule(photos, TRANSFORM, **(defaults | settings))
    data.setup()
    return data


def computed(data: BreedDataModule, cache: Path | None = None) -> dict[str, Features]:
    return data.compute_features(engine(), "trunk", cache, no_progress)


def positions(batches: EpochBatches, epoch: int = 0) -> list[list[int]]:
    batches.set_epoch(epoch)
    return [rows.positions for rows in batches]


def flat(batches: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


def train_batches(data: BreedDataModule, epoch: int) -> list[tuple[Tensor, Tensor]]:
    loader = data.train_dataloader()
    assert isinstance(loader.sampler, EpochBatches)
    loader.sampler.set_epoch(epoch)
    return list(loader)


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
    batches = EpochBatches(23, 5, seed=0, shuffle=True)
    found = positions(batches)
    assert [len(batch) for batch in found] == [5, 5, 5, 5, 3]
    assert len(batches) == 5
    assert sorted(flat(found)) == list(range(23))
    assert flat(found) != list(range(23))


@pytest.mark.parametrize(("length", "size", "batches"), [(20, 5, 4), (21, 5, 5), (3, 5, 1), (5, 5, 1), (1, 1, 1)])
def test_number_of_batches(length: int, size: int, batches: int) -> None:
    sampler = EpochBatches(length, size, seed=0, shuffle=True)
    assert len(sampler) == len(list(sampler)) == batches


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = EpochBatches(50, 8, seed=3, shuffle=True)
    orders = [positions(first, epoch) for epoch in range(4)]
    assert all(orders[0] != order for order in orders[1:])
    # A resumed run makes a new sampler, in another state of the global generator.
    torch.manual_seed(12345)
    resumed = EpochBatches(50, 8, seed=3, shuffle=True)
    assert positions(resumed, 2) == orders[2]
    assert positions(EpochBatches(50, 8, seed=4, shuffle=True), 2) != orders[2]
    # Neighbouring seeds and epochs do not share an order.
    assert positions(EpochBatches(50, 8, seed=4, shuffle=True), 1) != orders[2]


def test_epoch_comes_with_the_rows() -> None:
    batches = EpochBatches(10, 5, seed=0, shuffle=True)
    batches.set_epoch(7)
    assert [rows.epoch for rows in batches] == [7, 7]


def test_without_shuffling_the_order_is_that_of_the_index() -> None:
    batches = EpochBatches(7, 3, seed=9, shuffle=False)
    assert positions(batches, 0) == positions(batches, 5) == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_every_batch(monkeypatch: pytest.MonkeyPatch, ranks: int, shuffle: bool) -> None:
    batches = EpochBatches(22, 6, seed=1, shuffle=shuffle)
    alone = positions(batches, 2)
    shares = []
    for rank in range(ranks):
        as_rank(monkeypatch, rank, ranks)
        shares.append(positions(batches, 2))
        assert len(batches) == len(shares[-1]) == 4
    for number, batch in enumerate(alone):
        parts = [share[number] for share in shares]
        assert sorted(flat(parts)) == sorted(batch)
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_no_rank_gets_an_empty_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = EpochBatches(13, 6, seed=1, shuffle=True)
    last = positions(batches)[-1]
    assert len(last) == 1
    for rank in range(2):
        as_rank(monkeypatch, rank, 2)
        assert [len(batch) for batch in positions(batches)] == [3, 3, 1]
        assert positions(batches)[-1] == last


class Recorder(pl.LightningModule):
    """Keeps the values of the batches that Lightning brings."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: dict[int, list[Tensor]] = {}

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        self.seen.setdefault(self.current_epoch, []).append(batch[0].clone())
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")
def test_lightning_shuffles_anew_in_each_epoch(photos: Path, tmp_path: Path) -> None:
    data, recorder = module(photos), Recorder()
    features = computed(data)["train"].values
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(recorder, datamodule=data)
    for epoch in range(2):
        expected = positions(EpochBatches(12, 5, seed=0, shuffle=True), epoch)
        assert all(
            torch.equal(seen, features[rows]) for seen, rows in zip(recorder.seen[epoch], expected, strict=True)
        )


# --- what is in the batches


def test_feature_batches_are_rows_of_the_features(photos: Path) -> None:
    data = module(photos)
    train = computed(data)["train"]
    order = positions(EpochBatches(12, 5, seed=0, shuffle=True), 3)
    batches = train_batches(data, 3)
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    for (values, labels), rows in zip(batches, order, strict=True):
        assert torch.equal(values, train.values[rows])
        assert torch.equal(labels, train.labels[rows])
    values, labels = (torch.cat(parts) for parts in zip(*data.val_dataloader(), strict=True))
    assert torch.equal(values, data.features["valid"].values)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_pixel_batches_are_the_photos(photos: Path) -> None:
    data = module(photos, train_on_pixels=True, validate_on_pixels=True)
    for split, batches in (("train", train_batches(data, 0)), ("valid", list(data.val_dataloader()))):
        found = data.folders.splits[split]
        order = flat(positions(EpochBatches(len(found), 5, seed=0, shuffle=split == "train")))
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert (images.dtype, images.shape) == (torch.uint8, (len(found), 3, 32, 32))
        assert labels.tolist() == [found[row].label for row in order]
        for image, row in zip(images, order, strict=True):
            assert torch.equal(image, TRANSFORM(decode(found[row].path.read_bytes())))


def augmented(photos: Path, **settings: Any) -> BreedDataModule:
    return module(photos, augment=True, train_on_pixels=True, validate_on_pixels=True, **settings)


def by_photo(photos: Path, epoch: int, seed: int = 0) -> Tensor:
    """The training images of an epoch in the order of the index, whatever order they were served in."""
    images = torch.cat([batch for batch, _ in train_batches(augmented(photos, seed=seed), epoch)])
    order = flat(positions(EpochBatches(12, 5, seed=seed, shuffle=True), epoch))
    return images[torch.tensor(order).argsort()]


def test_augmentation_depends_on_seed_and_epoch_alone(photos: Path) -> None:
    first = train_batches(augmented(photos), 2)
    assert all(images.dtype == torch.uint8 and images.shape[1:] == (3, 32, 32) for images, _ in first)
    torch.manual_seed(12345)
    assert same(first, train_batches(augmented(photos), 2))


def test_augmentation_leaves_the_global_generator_alone(photos: Path) -> None:
    dataset = augmented(photos).train_dataloader().dataset
    before = torch.get_rng_state()
    dataset[Rows(epoch=1, positions=[0, 1])]
    assert torch.equal(torch.get_rng_state(), before)


def test_augmentation_differs_between_epochs_seeds_and_photos(photos: Path) -> None:
    views = by_photo(photos, 0)
    for other in (by_photo(photos, 1), by_photo(photos, 0, seed=1)):
        assert not (views == other).flatten(1).all(dim=1).any()
    plain = torch.stack(
        [TRANSFORM(decode(photo.path.read_bytes())) for photo in module(photos).folders.splits["train"]]
    )
    assert not (views == plain).flatten(1).all(dim=1).any()


def test_photos_of_a_batch_are_augmented_differently(tmp_path: Path) -> None:
    for split in PER_CLASS:
        for name in CLASSES:
            paint(tmp_path / split / name / "0.png")
    original = tmp_path / "train/akita/0.png"
    for number in range(1, 4):
        shutil.copy(original, tmp_path / f"train/akita/{number}.png")
    data = augmented(tmp_path, batch_size=6)
    ((images, labels),) = train_batches(data, 0)
    akitas = images[labels == 0]
    assert len({image.numpy().tobytes() for image in akitas}) == 4


def test_validation_is_never_augmented(photos: Path) -> None:
    data = augmented(photos)
    plain = module(photos, validate_on_pixels=True)
    assert same(list(data.val_dataloader()), list(plain.val_dataloader()))


def test_worker_processes_change_nothing(photos: Path) -> None:
    alone, together = augmented(photos), augmented(photos, workers=2)
    assert alone.folders == together.folders
    loader = together.train_dataloader()
    assert loader.num_workers == 2
    assert isinstance(loader.sampler, EpochBatches)
    # The processes stay alive from epoch to epoch and must follow it all the same.
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        assert same(list(loader), train_batches(alone, epoch))


# --- folders and features


def test_setup_reads_the_folders_once(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    data = module(tmp_path / "photos")
    found = data.folders
    shutil.rmtree(tmp_path / "photos")
    data.setup("fit")
    assert data.folders is found
    assert found.counts() == {"train": 12, "valid": 9, "test": 3}


def test_settings_reach_the_index(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "flat"
    for name in CLASSES:
        for number in range(12):
            paint(root / name / f"{number}.png")
    first, second = (module(root, split_seed=seed).folders for seed in (0, 1))
    assert first.splits["test"] != second.splits["test"]
    (root / "akita/bad.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"bad\.jpg"):
        module(root)
    assert len(module(root, on_bad_image="skip").folders.unreadable) == 1


def test_features_of_all_splits_with_one_progress(photos: Path, tmp_path: Path) -> None:
    data = module(photos)
    calls: list[tuple[int, int]] = []
    features = data.compute_features(
        engine(), "trunk", tmp_path / "cache", lambda done, total: calls.append((done, total))
    )
    # 12, 9 and 3 photos in batches of five.
    assert calls == [(done, 24) for done in (5, 10, 12, 17, 21, 24)]
    for split, found in features.items():
        expected = torch.stack(
            [
                TRANSFORM(decode(photo.path.read_bytes())).float().mean(dim=(1, 2))
                for photo in data.folders.splits[split]
            ]
        )
        torch.testing.assert_close(found.values, expected)
        assert (found.computed, found.reused) == (len(expected), 0)
    assert sorted(file.name for file in (tmp_path / "cache").iterdir()) == [
        "test.safetensors",
        "train.safetensors",
        "valid.safetensors",
    ]


def test_second_run_takes_the_features_from_the_cache(photos: Path, tmp_path: Path) -> None:
    first = computed(module(photos), tmp_path)
    again = module(photos).compute_features(engine(NoEngine), "trunk", tmp_path, no_progress)
    for split, found in again.items():
        assert torch.equal(found.values, first[split].values)
        assert (found.computed, found.reused) == (0, len(found.labels))
    with pytest.raises(AssertionError, match="the trunk was run"):
        module(photos).compute_features(engine(NoEngine), "another trunk", tmp_path, no_progress)


def test_changed_photo_is_computed_again(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    computed(module(root), tmp_path / "cache")
    shutil.copy(root / "train/akita/0.png", root / "valid/akita/0.png")
    again = computed(module(root), tmp_path / "cache")
    assert {split: found.computed for split, found in again.items()} == {"train": 0, "valid": 9, "test": 0}
    assert torch.equal(again["valid"].values[0], again["train"].values[0])


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
def test_one_batch_is_spread_over_the_classes(photos: Path, size: int, expected: dict[str, list[int]]) -> None:
    data = module(photos, batch_size=size, one_batch=True, train_on_pixels=True, validate_on_pixels=True)
    assert {split: data.folders.class_counts(split) for split in PER_CLASS} == expected
    assert data.folders.classes == CLASSES
    for loader, split in ((data.train_dataloader(), "train"), (data.val_dataloader(), "valid")):
        ((images, labels),) = loader
        assert len(images) == sum(expected[split])
        assert Counter(labels.tolist()) == Counter({n: count for n, count in enumerate(expected[split]) if count})

"""Breed folders as a LightningDataModule: batches of features, or of pixels where a run needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from dogbreeds.data.folders import BreedFolders, Photo, index
from dogbreeds.data.images import Transform, decode
from dogbreeds.data.layout import SPLITS
from dogbreeds.features.engines.reference import TorchEngine
from dogbreeds.features.extract import Features, Progress, cache_key, extract

Batch = tuple[Tensor, Tensor]


class Rows(NamedTuple):
    """One batch: positions in a split, and the epoch, on which augmentation depends."""

    epoch: int
    positions: list[int]


class EpochBatches(Sampler[Rows]):
    """Shuffled batches of indices that depend on the seed and the epoch alone.

    A resumed run therefore sees the order that it would have seen without the interruption. Under DDP each
    rank takes its share of every batch.
    """

    def __init__(self, length: int, batch_size: int, seed: int, *, shuffle: bool) -> None:
        """Describes the batches.

        Args:
            length: Number of photos.
            batch_size: Photos per batch over all ranks; the last batch is smaller where they do not divide.
            seed: The run's seed.
            shuffle: False keeps the order of the index, in every epoch.
        """
        self.length, self.batch_size, self.seed, self.shuffle = length, batch_size, seed, shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[Rows]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator) if self.shuffle else torch.arange(self.length)
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if distributed else 0
        ranks = torch.distributed.get_world_size() if distributed else 1
        for batch in order.split(self.batch_size):
            # Each rank needs at least one photo of every batch, or the ranks would wait for each other.
            yield Rows(self.epoch, batch[rank::ranks].tolist() or batch[:1].tolist())


class _FeatureBatches(Dataset[Batch]):
    """A whole batch by one indexing operation."""

    def __init__(self, features: Features) -> None:
        self.features = features

    def __getitem__(self, rows: Rows) -> Batch:
        return self.features.values[rows.positions], self.features.labels[rows.positions]


class _PixelBatches(Dataset[Batch]):
    """A batch of decoded photos, augmented where an augmentation is given."""

    def __init__(
        self, photos: Sequence[Photo], transform: Transform, augmentation: v2.Transform | None, seed: int
    ) -> None:
        self.photos, self.transform, self.augmentation, self.seed = photos, transform, augmentation, seed

    def __getitem__(self, rows: Rows) -> Batch:
        images = [self._image(position, rows.epoch) for position in rows.positions]
        return torch.stack(images), torch.tensor([self.photos[position].label for position in rows.positions])

    def _image(self, position: int, epoch: int) -> Tensor:
        image = decode(self.photos[position].path.read_bytes())
        if self.augmentation is None:
            return self.transform(image)
        with torch.random.fork_rng(devices=[]):
            # One draw per photo and epoch, whichever process decodes it: a resumed run sees the same views.
            torch.manual_seed(hash((self.seed, epoch, position)) & 0x7FFF_FFFF_FFFF_FFFF)
            view: Tensor = v2.functional.pil_to_tensor(self.augmentation(image))
            return view


class BreedDataModule(pl.LightningDataModule):
    """Reads breed folders and serves them as features or pixels.

    `setup` indexes the folders; `compute_features` runs the trunk over them once; the loaders come after.
    """

    folders: BreedFolders
    features: dict[str, Features]

    def __init__(
        self,
        directory: Path,
        transform: Transform,
        *,
        batch_size: int,
        seed: int,
        on_bad_image: str,
        split_seed: int,
        workers: int | None,
        augment: bool,
        train_on_pixels: bool,
        validate_on_pixels: bool,
        one_batch: bool,
    ) -> None:
        """Takes the settings of conf/data and what the model asks for.

        Args:
            directory: The folder of breed folders.
            transform: The backbone's evaluation transform.
            batch_size: Photos per training step.
            seed: Decides the order of the batches.
            on_bad_image: `stop` or `skip`.
            split_seed: Decides the split of folders that come without one.
            workers: Threads or processes that decode; None is one per core, 0 is none.
            augment: Random crops and flips of the training photos.
            train_on_pixels: Training batches are uint8 images instead of features.
            validate_on_pixels: The same for validation, where the tail is trained too.
            one_batch: Keep one batch of each split, spread over the classes.
        """
        super().__init__()
        self.directory, self.transform = directory, transform
        self.batch_size, self.seed = batch_size, seed
        self.on_bad_image, self.split_seed, self.workers = on_bad_image, split_seed, workers
        self.augment, self.one_batch = augment, one_batch
        self.train_on_pixels, self.validate_on_pixels = train_on_pixels, validate_on_pixels
        self.features = {}

    def setup(self, stage: str | None = None) -> None:
        """Indexes the folders, once.

        Raises:
            DataError: Nothing can be trained on what is there; the message says why.
        """
        if hasattr(self, "folders"):
            return
        found = index(
            self.directory, on_bad_image=self.on_bad_image, split_seed=self.split_seed, workers=self.workers
        )
        if self.one_batch:
            splits = {split: _spread(photos, self.batch_size) for split, photos in found.splits.items()}
            found = BreedFolders(found.root, found.classes, splits, found.unreadable, found.leaks)
        self.folders = found

    def compute_features(
        self, engine: TorchEngine, trunk: str, cache: Path | None, progress: Progress
    ) -> dict[str, Features]:
        """Runs the trunk over all splits, or takes its results from the cache.

        Args:
            engine: Runs the trunk.
            trunk: The fingerprint of its weights.
            cache: Folder of the cached features; None keeps nothing.
            progress: Called with (photos done, photos in all) over all splits.
        """
        total, done = sum(self.folders.counts().values()), 0
        for split in SPLITS:
            photos = self.folders.splits[split]

            def advanced(count: int, _: int, before: int = done) -> None:
                progress(before + count, total)

            self.features[split] = extract(
                photos,
                engine,
                self.transform,
                workers=self.workers,
                key=cache_key(photos, trunk, self.transform, engine.precision),
                cache=cache / f"{split}.safetensors" if cache else None,
                progress=advanced,
            )
            done += len(photos)
        return self.features

    def train_dataloader(self) -> DataLoader[Batch]:
        """Returns shuffled training batches."""
        if self.train_on_pixels:
            augmentation = self._augmentation() if self.augment else None
            return self._loader("train", self._pixels("train", augmentation))
        return self._loader("train", _FeatureBatches(self.features["train"]))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Returns validation batches in the order of the index."""
        if self.validate_on_pixels:
            return self._loader("valid", self._pixels("valid", None))
        return self._loader("valid", _FeatureBatches(self.features["valid"]))

    def _pixels(self, split: str, augmentation: v2.Transform | None) -> _PixelBatches:
        return _PixelBatches(self.folders.splits[split], self.transform, augmentation, self.seed)

    def _loader(self, split: str, dataset: Dataset[Batch]) -> DataLoader[Batch]:
        batches = EpochBatches(len(self.folders.splits[split]), self.batch_size, self.seed, shuffle=split == "train")
        threads = torch.get_num_threads() if self.workers is None else self.workers
        workers = threads if isinstance(dataset, _PixelBatches) else 0
        # batch_size=None: the sampler's lists of indices go to the dataset whole.
        return DataLoader(
            dataset, batch_size=None, sampler=batches, num_workers=workers, persistent_workers=workers > 0
        )

    def _augmentation(self) -> v2.Transform:
        """Inception-style crops (Szegedy et al. 2015, as torchvision's recipes use them) and a mirror image."""
        return v2.Compose(
            [
                v2.RandomResizedCrop(self.transform.crop, scale=(0.35, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
            ]
        )


def _spread(photos: Sequence[Photo], count: int) -> tuple[Photo, ...]:
    """The first `count` photos, taken from every class in turn."""
    position: dict[int, int] = {}
    turns = []
    for photo in photos:
        position[photo.label] = position.get(photo.label, -1) + 1
        turns.append((position[photo.label], photo.label, photo))
    chosen = sorted(turns, key=lambda turn: turn[:2])[:count]
    return tuple(photo for _, _, photo in sorted(chosen, key=lambda turn: (turn[1], turn[0])))

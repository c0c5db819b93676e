"""Breed folders as a LightningDataModule: batches of features, which the frozen trunk has computed before."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dogbreeds.data.folders import BreedFolders, Examine, index
from dogbreeds.data.layout import SPLITS
from dogbreeds.features.source import FeatureSource
from dogbreeds.features.store.segments import StoredRows

Batch = tuple[Tensor, Tensor]

# Photos per validation step: all at once would do for vectors, but not for activations behind an early cut.
_VALIDATION_BATCH = 1024
# Training steps on vectors between two visits to Lightning's loop.
_STEPS_PER_GROUP = 16


@dataclass(frozen=True)
class Features:
    """Features of one split with its labels.

    Attributes:
        views: For each view of the photos, their features (photos, *shape) in the order of the index.
        labels: int64 of shape (photos,).
    """

    views: tuple[Tensor | StoredRows, ...]
    labels: Tensor

    @property
    def values(self) -> Tensor | StoredRows:
        """The features of the first view, the only one but for training with augmented views."""
        return self.views[0]

    def to(self, device: torch.device) -> Features:
        """Returns the same with vectors on a device; activations stay in their files."""
        views = tuple(view.to(device) if isinstance(view, Tensor) else view for view in self.views)
        return Features(views, self.labels.to(device))

    @property
    def tensor(self) -> Tensor:
        """The same, in memory."""
        return self.values if isinstance(self.values, Tensor) else self.values.tensor()


class Group(NamedTuple):
    """Consecutive batches: the positions of their photos, and the epoch, on which the view depends."""

    epoch: int
    batches: tuple[Tensor, ...]


class EpochBatches(Sampler[Group]):
    """Shuffled batches of indices that depend on the seed and the epoch alone, several at a time.

    A resumed run therefore sees the order that it would have seen without the interruption. Under DDP each
    rank takes its share of every batch.
    """

    def __init__(self, length: int, batch_size: int, seed: int, *, shuffle: bool, group: int) -> None:
        """Describes the batches.

        Args:
            length: Number of photos.
            batch_size: Photos per batch over all ranks; the last batch is smaller where they do not divide.
            seed: The run's seed.
            shuffle: False keeps the order of the index, in every epoch.
            group: Batches that are handed out together.
        """
        self.length, self.batch_size, self.seed, self.shuffle, self.group = length, batch_size, seed, shuffle, group
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.length // (self.batch_size * self.group))

    def __iter__(self) -> Iterator[Group]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator) if self.shuffle else torch.arange(self.length)
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if distributed else 0
        ranks = torch.distributed.get_world_size() if distributed else 1
        # Each rank needs at least one photo of every batch, or the ranks would wait for each other.
        batches = [batch[rank::ranks] if len(batch) > rank else batch[:1] for batch in order.split(self.batch_size)]
        for start in range(0, len(batches), self.group):
            yield Group(self.epoch, tuple(batches[start : start + self.group]))


class Batches:
    """The batches of a group, gathered one by one: all at once they would not stay in the processor's caches."""

    def __init__(self, features: Features, group: Group) -> None:
        """Takes the split and what to gather of it."""
        self._features, self._group = features, group

    def __iter__(self) -> Iterator[Batch]:
        view = self._features.views[self._group.epoch % len(self._features.views)]
        for positions in self._group.batches:
            yield view[positions], self._features.labels[positions]


class _FeatureBatches(Dataset[Batches]):
    def __init__(self, features: Features) -> None:
        self.features = features

    def __getitem__(self, group: Group) -> Batches:
        return Batches(self.features, group)


class BreedDataModule(pl.LightningDataModule):
    """Reads breed folders and serves them as features.

    `setup` indexes the folders; `obtain` has the features computed or found; the loaders serve what `inputs` holds.
    """

    folders: BreedFolders
    inputs: dict[str, Features]

    def __init__(
        self,
        directory: Path,
        examine: Examine,
        *,
        batch_size: int,
        seed: int,
        on_bad_image: str,
        split_seed: int,
        workers: int | None,
        one_batch: bool,
    ) -> None:
        """Takes the settings of conf/data.

        Args:
            directory: The folder of breed folders.
            examine: Gives the digests of files, and why some are no images.
            batch_size: Photos per training step.
            seed: Decides the order of the batches.
            on_bad_image: `stop` or `skip`.
            split_seed: Decides the split of folders that come without one.
            workers: Threads that read; None is one per core, 0 is none.
            one_batch: Keep one batch of each split, spread over the classes.
        """
        super().__init__()
        self.directory, self.examine = directory, examine
        self.batch_size, self.seed = batch_size, seed
        self.on_bad_image, self.split_seed, self.workers = on_bad_image, split_seed, workers
        self.one_batch = one_batch

    def setup(self, stage: str | None = None) -> None:
        """Indexes the folders, once.

        Raises:
            DataError: Nothing can be trained on what is there; the message says why.
        """
        if hasattr(self, "folders"):
            return
        self.folders = index(
            self.directory,
            self.examine,
            on_bad_image=self.on_bad_image,
            split_seed=self.split_seed,
            workers=self.workers,
        )
        if self.one_batch:
            self.folders = self.folders.sample(self.batch_size)

    def obtain(self, source: FeatureSource, train_views: Sequence[int]) -> dict[str, Features]:
        """Returns the features of all splits, in the order of the index.

        Args:
            source: Has them or computes them.
            train_views: The views of training photos; the other splits are seen as evaluation sees them.

        Raises:
            DataError: Photos turned out to be unreadable and may not be skipped, or are gone.
        """
        photos = {split: [photo.digest for photo in self.folders.splits[split]] for split in SPLITS}
        wanted = {0: photos["valid"] + photos["test"]}
        for view in train_views:
            wanted[view] = photos["train"] + wanted.get(view, [])
        found, unreadable = source.load(self.folders.files(), wanted)
        self.folders = self.folders.without(unreadable, on_bad_image=self.on_bad_image)
        return {split: self._features(found, split, train_views if split == "train" else [0]) for split in SPLITS}

    def _features(self, found: Mapping[int, StoredRows], split: str, views: Sequence[int]) -> Features:
        photos = self.folders.splits[split]
        rows = [found[view].of([photo.digest for photo in photos]) for view in views]
        labels = torch.tensor([photo.label for photo in photos], dtype=torch.long)
        # Vectors fit into memory; activations stay in their files and are read batch by batch.
        in_memory = len(rows[0].layout.shape) == 1
        return Features(tuple(view.tensor() if in_memory else view for view in rows), labels)

    def rebatched(self, batch_size: int, seed: int) -> BreedDataModule:
        """Returns the same photos and inputs in other batches; nothing is read again."""
        other = copy.copy(self)
        other.batch_size, other.seed = batch_size, seed
        return other

    def train_dataloader(self) -> DataLoader[Batches]:
        """Returns groups of shuffled training batches."""
        return self._loader("train", self.batch_size)

    def val_dataloader(self) -> DataLoader[Batches]:
        """Returns validation batches in the order of the index, one in a group."""
        return self._loader("valid", max(self.batch_size, _VALIDATION_BATCH))

    def _loader(self, split: str, batch_size: int) -> DataLoader[Batches]:
        features = self.inputs[split]
        train = split == "train"
        group = _STEPS_PER_GROUP if train and isinstance(features.values, Tensor) else 1
        batches = EpochBatches(len(features.labels), batch_size, self.seed, shuffle=train, group=group)
        # batch_size=None: what the sampler says goes to the dataset whole.
        return DataLoader(_FeatureBatches(features), batch_size=None, sampler=batches)

"""Breed folders as a LightningDataModule: batches of features, which the frozen trunk computes once."""

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from dogbreeds.data.folders import BreedFolders, index
from dogbreeds.debug.timeline import Phases
from dogbreeds.features.cluster import Cluster
from dogbreeds.features.engines import engine_for
from dogbreeds.features.int8 import Calibration
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.model.backbones import Backbone, cut, load_backbone
from dogbreeds.model.classifier import Batch
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.network import Network
from dogbreeds.schema import FeaturesConfig
from dogbreeds.training.features import Features, RunFeatures, load_features

log = logging.getLogger(__name__)

# Photos per validation step: all at once would do for vectors, but not for activations behind an early cut.
_EVALUATION_BATCH = 1024
_STORE_BYTES = 20e9


class EpochBatches(DistributedSampler[Tensor]):
    """Batches of positions (batch,), shuffled by the seed and the epoch alone.

    A resumed run therefore sees the order that it would have seen without the interruption. Under DDP each rank takes
    its share of every batch; Lightning leaves a DistributedSampler as it is. `batch_size` counts photos over all
    ranks; the last batch may be smaller.
    """

    def __init__(
        self, length: int, batch_size: int, *, seed: int = 0, shuffle: bool = False, device: torch.device | str = "cpu"
    ) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        ranks = torch.distributed.get_world_size() if distributed else 1
        rank = torch.distributed.get_rank() if distributed else 0
        super().__init__(range(length), ranks, rank, shuffle, seed)  # type: ignore[arg-type]
        self.length, self.batch_size, self.device = length, batch_size, device

    def __len__(self) -> int:
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator) if self.shuffle else torch.arange(self.length)
        for batch in order.to(self.device).split(self.batch_size):
            # Each rank needs at least one photo of every batch, or the ranks would wait for each other.
            yield batch[self.rank :: self.num_replicas] if len(batch) > self.rank else batch[:1]


class FeatureBatches(Dataset[Batch]):
    """Features and labels at positions, of the view whose turn it is in the sampler's epoch."""

    def __init__(self, features: Features, sampler: EpochBatches) -> None:
        self._features, self._sampler = features, sampler

    def __getitem__(self, positions: Tensor) -> Batch:
        views = self._features.views
        return views[self._sampler.epoch % len(views)][positions], self._features.labels[positions]


class BreedDataModule(pl.LightningDataModule):
    """Batches of the features of breed folders.

    `setup` indexes the folders, loads the backbone, and loads or computes the features, each once.
    """

    folders: BreedFolders
    backbone: Backbone
    features: RunFeatures
    calibration: Calibration | None = None
    #: Computes what the store lacks, in place of this machine.
    cluster: Cluster | None = None

    def __init__(
        self,
        directory: str | Path,
        model: str = "resnet50",
        weights: str = "imagenet",
        *,
        library: str = "torchvision",
        pool: str = "head",
        resolution: int | None = None,
        crop: float | None = None,
        unfreeze: str | None = None,
        views: int = 0,
        batch_size: int = 256,
        seed: int = 0,
        split_seed: int = 0,
        on_bad_image: str = "skip",
        labels: str | Path | None = None,
        exclude: str | Path | None = None,
        workers: int | None = None,
        one_batch: bool = False,
        features: FeaturesConfig | None = None,
        device: torch.device | None = None,
        store: FeatureStore | None = None,
    ) -> None:
        """Takes the settings of conf/data, conf/model and conf/train.yaml.

        Args:
            directory: The folder of breed folders.
            model: The backbone; for this, weights, library, pool, resolution and crop see `load_backbone`.
            unfreeze: The stage where the tail begins, or None.
            views: Augmented views of the training photos; epoch e sees number 1 + e mod views. 0 is none.
            batch_size: Photos per training step.
            seed: Decides the order of the batches, and random weights.
            split_seed: Decides the split of folders that come without one.
            on_bad_image: `skip` leaves photos out that cannot be read, `stop` refuses them.
            labels: A table that gives each photo its class, in place of breed folders.
            exclude: A file that names photos to leave out, such as an audit.csv.
            workers: Threads that read; None is one per core, 0 is none.
            one_batch: Keep one batch of each split, spread over the classes.
            features: Engine, precision and batch size of the trunk, and whether it sees mirror images too; None is
                `auto`, without them.
            device: Where the trunk runs; None is the accelerator of this machine.
            store: Where features are kept; None is the usual place of this user.
        """
        super().__init__()
        self.directory, self.model, self.weights, self.unfreeze = Path(directory), model, weights, unfreeze
        self.library, self.pool, self.resolution, self.crop = library, pool, resolution, crop
        self.views, self.batch_size, self.seed, self.split_seed = views, batch_size, seed, split_seed
        self.on_bad_image, self.workers, self.one_batch = on_bad_image, workers, one_batch
        self.labels = None if labels is None else Path(labels)
        self.exclude = None if exclude is None else Path(exclude)
        settings = features or FeaturesConfig("auto", "auto", None, mirror=False)
        current = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        self.device = device or current or torch.device("cpu")
        self.settings = replace(settings, engine=engine_for(settings.engine, settings.precision, self.device))
        self._store = store

    def setup(self, stage: str | None = None) -> None:
        """Does what has not been done yet."""
        if hasattr(self, "features"):
            return
        with ExitStack() as opened:
            if self._store is None:
                place = Path(platformdirs.user_cache_dir("dogbreeds"))
                self._store = opened.enter_context(FeatureStore(place, _STORE_BYTES))
                opened.callback(setattr, self, "_store", None)
            self.prepare(self._store, Phases())

    def prepare(self, store: FeatureStore, phases: Phases) -> None:
        """Indexes the photos, loads the backbone, and loads or computes the features."""
        with phases.phase("index"):
            self.index(store)
        log.info(self.folders.describe())
        self.folders.check(self.on_bad_image)
        known = set(self.folders.unreadable)
        with phases.phase("backbone"):
            self.load_backbone()
        with phases.phase("features"):
            self.load_features(store)
        if more := tuple(one for one in self.folders.unreadable if one not in known):
            lines = "\n".join(replace(self.folders, unreadable=more).describe_unreadable())
            log.warning("Decoding found more photos that cannot be read:\n%s", lines)
            self.folders.check(self.on_bad_image)

    def index(self, store: FeatureStore) -> None:
        files = self.labels, self.exclude
        self.folders = index(
            self.directory, store.files.examine, *files, split_seed=self.split_seed, workers=self.workers
        )
        if self.one_batch:
            self.folders = self.folders.sample(self.batch_size)
        if self.settings.precision == "int8":
            self.calibration = Calibration.of(self.folders.calibrating)

    def load_backbone(self) -> None:
        self.backbone = load_backbone(
            self.model,
            self.weights,
            self.seed,
            library=self.library,
            pool=self.pool,
            resolution=self.resolution,
            crop=self.crop,
        )
        if self.backbone.pretrained:
            log.info("%s, weights %s, %d features", self.backbone.name, self.backbone.weights, self.backbone.width)
        else:
            log.warning(
                "!!! %s has RANDOM weights: it is NOT pretrained, and its accuracy will be poor. "
                "Use model.weights=imagenet or a file for real work.",
                self.backbone.name,
            )

    def load_features(self, store: FeatureStore) -> None:
        self.folders, self.features = load_features(
            self.folders,
            self.backbone,
            store,
            self.settings,
            self.device,
            unfreeze=self.unfreeze,
            views=self.views,
            workers=self.workers,
            calibration=self.calibration,
            cluster=self.cluster,
        )

    def network(self, head: str = "linear", hidden: Sequence[int] = (256,), dropout: float = 0.5) -> Network:
        """Returns the trunk, a tail of its own, and a new head, `linear` or `mlp`, fitted to the training features.

        Widths of hidden layers, and the share of their units that is dropped while training, are those of an `mlp`.
        """
        self.setup()
        torch.manual_seed(self.seed)
        layers = (tuple(hidden), dropout) if head == "mlp" else ((), 0.0)
        new = Head(HeadShape(head, self.backbone.width, len(self.folders.classes), *layers))
        new.initialise(self.features.vectors["train"].values)
        trunk, tail = cut(self.backbone.stages, self.backbone.transform, self.unfreeze, mirror=self.settings.mirror)
        return Network(trunk, copy.deepcopy(tail), new)

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader("valid")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test")

    def _loader(self, split: str) -> DataLoader[Batch]:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        features = self.features.inputs[split].to(device)
        train = split == "train"
        size = self.batch_size if train else max(self.batch_size, _EVALUATION_BATCH)
        sampler = EpochBatches(len(features.labels), size, seed=self.seed, shuffle=train, device=device)
        # batch_size=None: what the sampler yields goes to the dataset whole.
        return DataLoader(
            FeatureBatches(features, sampler), batch_size=None, sampler=sampler, collate_fn=lambda batch: batch
        )

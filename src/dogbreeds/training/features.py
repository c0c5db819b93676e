"""The features of a run: loaded from the store, or computed by the frozen trunk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dogbreeds.data.folders import BreedFolders
from dogbreeds.data.layout import SPLITS
from dogbreeds.features.cluster import Cluster
from dogbreeds.features.engines.reference import resolve_precision
from dogbreeds.features.int8 import Calibration
from dogbreeds.features.source import FeatureSource
from dogbreeds.features.store.segments import StoredRows
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.model.backbones import Backbone, trunk_of
from dogbreeds.model.network import Graph
from dogbreeds.schema import FeaturesConfig

log = logging.getLogger(__name__)

_LOG_SECONDS = 5.0
#: Vectors of a run that have up to so many bytes are in memory, where batches are gathered fastest; more, and
#: activations, stay in their files and are read batch by batch.
_IN_MEMORY = 256e6


@dataclass(frozen=True)
class Features:
    """Features of one split, (photos, *shape) for each view in the order of the index; labels are int64 (photos,)."""

    views: tuple[Tensor | StoredRows, ...]
    labels: Tensor

    @property
    def values(self) -> Tensor | StoredRows:
        """The features of the first view, the only one except in training with augmented views."""
        return self.views[0]

    def to(self, device: torch.device) -> Features:
        """Returns the same with vectors on a device; activations stay in their files."""
        views = tuple(view.to(device) if isinstance(view, Tensor) else view for view in self.views)
        return Features(views, self.labels.to(device))

    @property
    def tensor(self) -> Tensor:
        """The features of the first view, in memory."""
        return self.values if isinstance(self.values, Tensor) else self.values.tensor()


@dataclass(frozen=True)
class RunFeatures:
    """The features that a run works with.

    Attributes:
        vectors: Pooled vectors of each split under the evaluation view: the head's normalisation and the exact
            reference are fitted to them.
        inputs: What is trained and evaluated on: the same vectors, augmented views of them, or the activations at
            the cut where a tail is trained.
        engine: What computed the inputs.
        precision: `fp32`, `bf16` or `int8`.
        computed: Photos that went through the trunk now, views and cuts counted.
        reused: Photos whose features were in the store, counted likewise.
        weights: Names the weights of the whole backbone.
        int8: Returns the quantised trunk that computes the inputs, or None for another precision.
        key: Names everything besides the photos that the vectors depend on.
    """

    vectors: dict[str, Features]
    inputs: dict[str, Features]
    engine: str
    precision: str
    computed: int
    reused: int
    weights: str
    int8: Callable[[], Graph | None] | None = None
    key: str = ""

    def counts(self) -> dict[str, int | str]:
        """Returns the section `features` of metrics.json."""
        return {"computed": self.computed, "reused": self.reused, "engine": self.engine, "precision": self.precision}


def load_features(
    folders: BreedFolders,
    backbone: Backbone,
    store: FeatureStore,
    settings: FeaturesConfig,
    device: torch.device,
    *,
    unfreeze: str | None,
    views: int,
    workers: int | None,
    calibration: Calibration | None = None,
    cluster: Cluster | None = None,
) -> tuple[BreedFolders, RunFeatures]:
    """Returns the photos that could be read, and their features; see `BreedDataModule` for the settings."""
    precision = cluster.precision if cluster else resolve_precision(settings.precision, device)

    def source(stage: str | None, engine: str) -> FeatureSource:
        return FeatureSource(
            store,
            trunk_of(backbone, stage, mirror=settings.mirror),
            device=device,
            engine=engine,
            precision=precision,
            batch_size=settings.batch_size,
            workers=workers,
            progress=_Log(),
            calibration=calibration,
            cluster=cluster,
        )

    sources = [source(None, settings.engine)]
    folders, vectors = load_splits(folders, sources[0], [0])
    inputs = vectors
    if unfreeze is not None:
        sources.append(source(unfreeze, sources[0].engine))
    if unfreeze is not None or views:
        remaining, inputs = load_splits(folders, sources[-1], range(1, views + 1) or [0])
        if remaining is not folders:
            # Another decoder may fail at photos that the first could read.
            folders, vectors = load_splits(remaining, sources[0], [0])
    computed = sum(source.computed for source in sources)
    reused = sum(source.photos for source in sources) - computed
    log.info("features: %d computed, %d reused", computed, reused)
    used, weights, key = sources[-1], sources[0].weights, str(sources[0].key(sources[0].engine, 0))
    found = RunFeatures(vectors, inputs, used.engine, precision, computed, reused, weights, used.int8, key)
    return folders, found


def load_splits(
    folders: BreedFolders, source: FeatureSource, train_views: Sequence[int]
) -> tuple[BreedFolders, dict[str, Features]]:
    """Returns the photos that could be read, and the features of all splits in their order."""
    photos = {split: [photo.digest for photo in folders.splits[split]] for split in SPLITS}
    wanted = {0: photos["valid"] + photos["test"]}
    for view in train_views:
        wanted[view] = photos["train"] + wanted.get(view, [])
    found, unreadable = source.load(folders.files(), wanted)
    folders = folders.without(unreadable)
    layout = found[0].layout
    in_memory = len(layout.shape) == 1 and sum(map(len, found.values())) * layout.record.itemsize <= _IN_MEMORY
    splits = {}
    for split in SPLITS:
        digests = [photo.digest for photo in folders.splits[split]]
        rows = [found[view].of(digests) for view in (train_views if split == "train" else [0])]
        labels = torch.tensor([photo.label for photo in folders.splits[split]], dtype=torch.long)
        splits[split] = Features(tuple(view.tensor() if in_memory else view for view in rows), labels)
    return folders, splits


class _Log:
    """Logs how far a pass is and how long it will take."""

    def __init__(self) -> None:
        self._began = self._logged = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._logged < _LOG_SECONDS:
            return
        self._logged = now
        rate = done / (now - self._began)
        left = f", {(total - done) / rate:.0f} s left" if done < total else ""
        log.info("features %d/%d, %.0f photos/s%s", done, total, rate, left)

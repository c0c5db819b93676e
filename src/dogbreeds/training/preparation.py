"""What runs on the same photos, backbone and features share: prepared once for all trials of a search."""

import json
import logging
from collections import OrderedDict
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from dogbreeds.data.layout import SPLITS
from dogbreeds.debug.timeline import Phases
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.model.exact import ExactPath
from dogbreeds.model.head import Head
from dogbreeds.model.network import Network
from dogbreeds.model.rows import derived
from dogbreeds.run_directory import INDEX
from dogbreeds.schema import TrainConfig
from dogbreeds.training.audit import find
from dogbreeds.training.audit_file import Audit
from dogbreeds.training.datamodule import BreedDataModule
from dogbreeds.training.features import RunFeatures
from dogbreeds.training.reference import Reference, StoredSolutions, digest_of, exact_path, sample
from dogbreeds.training.trainer import device_of

log = logging.getLogger(__name__)

_MAX_PREPARED = 4


@dataclass(frozen=True)
class Prepared:
    """Photos, backbone and features, ready for any number of heads."""

    data: BreedDataModule
    store: FeatureStore
    _paths: dict[str, ExactPath] = field(default_factory=dict)
    _references: dict[str, Reference] = field(default_factory=dict)

    @property
    def features(self) -> RunFeatures:
        return self.data.features

    def decided(self, config: TrainConfig) -> TrainConfig:
        """Returns the config with the engine and precision that were chosen, so that a resumed run keeps them."""
        chosen = replace(config.features, engine=self.features.engine, precision=self.features.precision)
        return replace(config, features=chosen)

    def batches(self, config: TrainConfig) -> BreedDataModule:
        """Returns the same photos and features in the batches of a run; nothing is read again."""
        data = copy(self.data)
        data.batch_size, data.seed = config.batch_size, config.seed
        return data

    def network(self, config: TrainConfig) -> Network:
        """Returns the trunk, which all networks share, a tail of its own and a new head."""
        model = config.model
        return self.batches(config).network(model.head, model.hidden, model.dropout)

    def servable(self, network: Network) -> Network:
        """Returns a network with the quantised trunk beside its own, where that one computed the features."""
        made = self.features.int8
        return replace(network, int8=made()) if made else network

    def class_weights(self, config: TrainConfig) -> Tensor | None:
        """Weights n / (classes * n_class), the usual `balanced` formula (King and Zeng 2001)."""
        if config.model.class_weights == "none":
            return None
        counts = torch.tensor(self.data.folders.class_counts("train"), dtype=torch.float32)
        return counts.sum() / (len(counts) * counts.clamp_min(1))

    def reference(self, config: TrainConfig, head: Head) -> Reference:
        """Returns the exact linear solution with the best validation loss."""
        kind = config.model.class_weights
        if kind not in self._references:
            best = self.exact_path(config, head).best()
            self._references[kind] = Reference.of(best, head, self.features.vectors)
        return self._references[kind]

    def exact_path(self, config: TrainConfig, head: Head) -> ExactPath:
        """Returns the exact linear solutions with the class weights of a run."""
        kind = config.model.class_weights
        if kind not in self._paths:
            weights = self.class_weights(config)
            problem = digest_of(self.features.key, self.data.folders, weights)
            self._paths[kind] = exact_path(head, self.features, weights, StoredSolutions(self.store.blobs, problem))
        return self._paths[kind]

    def audit(self, config: TrainConfig, head: Head) -> Audit:
        """Returns what is suspicious about the photos, in the eyes of the features."""
        folders, vectors, blobs = self.data.folders, self.features.vectors, self.store.blobs
        problem = digest_of(self.features.key, folders, self.class_weights(config))
        rows = derived([vectors[split].values for split in SPLITS], head.normalise)
        path, judged = self.exact_path(config, head), sample(vectors["train"])
        return Audit(folders, find(folders, rows, path, judged, problem, blobs, config.data.workers))


def prepare(config: TrainConfig, store: FeatureStore, phases: Phases, listing: Path | None = None) -> Prepared:
    """Indexes the photos, loads the backbone, and loads or computes the features.

    `listing` is where every file is named, with what became of it, also if this fails.
    """
    data = data_module(config, store)
    try:
        data.prepare(store, phases)
    finally:
        if listing is not None and hasattr(data, "folders"):
            listing.parent.mkdir(parents=True, exist_ok=True)
            data.folders.save(listing)
    return Prepared(data, store)


def data_module(config: TrainConfig, store: FeatureStore) -> BreedDataModule:
    """Returns the photos of a run, with nothing done yet."""
    return BreedDataModule(
        config.data.dir,
        config.model.backbone,
        config.model.weights,
        library=config.model.library,
        pool=config.model.pool,
        resolution=config.model.resolution,
        crop=config.model.crop,
        unfreeze=config.model.unfreeze,
        views=config.data.views,
        batch_size=config.batch_size,
        seed=config.seed,
        split_seed=config.data.split_seed,
        on_bad_image=config.data.on_bad_image,
        labels=config.data.labels,
        exclude=config.data.exclude,
        workers=config.data.workers,
        one_batch=config.trainer.one_batch,
        features=config.features,
        device=device_of(config),
        store=store,
    )


class Preparations:
    """Prepares once for all trials that need the same, and keeps what was used last."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._prepared: OrderedDict[str, Prepared] = OrderedDict()

    def of(self, config: TrainConfig) -> Prepared:
        key = preparation_key(config)
        if key not in self._prepared:
            prepared = prepare(config, self._store, Phases(), Path(config.run_dir) / INDEX)
            # Also under the config that a trial saves.
            self._prepared[preparation_key(prepared.decided(config))] = prepared
            self._prepared[key] = prepared
        self._prepared.move_to_end(key)
        while len({id(prepared) for prepared in self._prepared.values()}) > _MAX_PREPARED:
            self._prepared.popitem(last=False)
        return self._prepared[key]


def preparation_key(config: TrainConfig) -> str:
    """Returns a key of all that `prepare` depends on: runs with the same key share what it makes."""
    model = config.model
    needs = {
        "data": asdict(config.data),
        "features": asdict(config.features),
        "backbone": [model.library, model.backbone, model.weights, model.unfreeze],
        "images": [model.pool, model.resolution, model.crop],
        "random weights": config.seed if model.weights == "random" else None,
        "accelerator": config.trainer.accelerator,
        "one batch": config.batch_size if config.trainer.one_batch else None,
    }
    return json.dumps(needs, sort_keys=True)

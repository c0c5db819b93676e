"""What runs with the same photos, backbone and features have in common, made once for all trials of a search."""

from __future__ import annotations

import copy
import json
import logging
from collections import OrderedDict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from dogbreeds.debug.timeline import Phases
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.model.backbones import Backbone, cut, load_backbone
from dogbreeds.model.exact import ExactPath
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.network import Network
from dogbreeds.schema import TrainConfig
from dogbreeds.training.datamodule import BreedDataModule
from dogbreeds.training.features import RunFeatures, obtain
from dogbreeds.training.fitting import device_of
from dogbreeds.training.reference import exact_path, reference_metrics

log = logging.getLogger(__name__)

_KEPT = 4


@dataclass(frozen=True)
class Prepared:
    """Photos, backbone and features, ready for any number of heads.

    Attributes:
        data: The photos; its batches are those of one run, `batches` gives those of another.
        backbone: The frozen network.
        features: What it made of the photos.
        device: Where the trunk and the handler run.
    """

    data: BreedDataModule
    backbone: Backbone
    features: RunFeatures
    device: torch.device
    _store: FeatureStore
    _paths: dict[str, ExactPath] = field(default_factory=dict)
    _references: dict[str, dict[str, float]] = field(default_factory=dict)

    def decided(self, config: TrainConfig) -> TrainConfig:
        """Returns the config with the engine and precision that were chosen: a resumed run must not choose again."""
        chosen = replace(config.features, engine=self.features.engine, precision=self.features.precision)
        return replace(config, features=chosen)

    def batches(self, config: TrainConfig) -> BreedDataModule:
        """Returns the features in the batches of a run."""
        return self.data.rebatched(config.batch_size, config.seed)

    def network(self, config: TrainConfig) -> Network:
        """Returns the trunk, which all networks share, a tail of its own and a new head."""
        torch.manual_seed(config.seed)
        mlp = config.model.head == "mlp"
        shape = HeadShape(
            kind=config.model.head,
            width=self.backbone.width,
            classes=len(self.data.folders.classes),
            hidden=tuple(config.model.hidden) if mlp else (),
            dropout=config.model.dropout if mlp else 0.0,
        )
        head = Head(shape)
        head.initialise(self.features.vectors["train"].tensor)
        trunk, tail = cut(self.backbone.stages, self.backbone.transform, config.model.unfreeze)
        return Network(trunk, copy.deepcopy(tail), head)

    def class_weights(self, config: TrainConfig) -> Tensor | None:
        """Weights n / (classes * n_class), the usual `balanced` formula (King and Zeng 2001)."""
        if config.model.class_weights == "none":
            return None
        counts = torch.tensor(self.data.folders.class_counts("train"), dtype=torch.float32)
        return counts.sum() / (len(counts) * counts.clamp_min(1))

    def reference(self, config: TrainConfig, head: Head) -> dict[str, float]:
        """Returns what metrics.json says of the best exact solution."""
        kind = config.model.class_weights
        if kind not in self._references:
            best = self.exact_path(config, head).best()
            self._references[kind] = reference_metrics(best, head, self.features.vectors)
        return self._references[kind]

    def exact_path(self, config: TrainConfig, head: Head) -> ExactPath:
        """Returns the exact linear solutions with the class weights of a run."""
        kind = config.model.class_weights
        if kind not in self._paths:
            weights = self.class_weights(config)
            self._paths[kind] = exact_path(head, self.features.vectors, weights, self._store.blobs)
        return self._paths[kind]


def prepare(config: TrainConfig, store: FeatureStore, phases: Phases) -> Prepared:
    """Indexes the photos, loads the backbone, and has the features computed or found.

    Args:
        config: What is wanted.
        store: Where features are kept.
        phases: Told what takes how long.

    Raises:
        UserError: The data or the weights cannot be used; the message says why.
    """
    device = device_of(config)
    data = BreedDataModule(
        Path(config.data.dir),
        store.files.examine,
        batch_size=config.batch_size,
        seed=config.seed,
        on_bad_image=config.data.on_bad_image,
        split_seed=config.data.split_seed,
        workers=config.data.workers,
        one_batch=config.trainer.one_batch,
    )
    with phases.phase("index"):
        data.setup()
    log.info(data.folders.describe())
    with phases.phase("backbone"):
        backbone = _backbone(config)
    with phases.phase("features"):
        features = obtain(config, store, data, backbone, device)
    return Prepared(data, backbone, features, device, store)


def _backbone(config: TrainConfig) -> Backbone:
    backbone = load_backbone(config.model.backbone, config.model.weights, config.seed)
    if backbone.pretrained:
        log.info("%s, pretrained, %d features", backbone.name, backbone.width)
    else:
        log.warning(
            "!!! %s has RANDOM weights: it is NOT pretrained, and its accuracy will be poor. "
            "Use model.weights=imagenet or a file for real work.",
            backbone.name,
        )
    return backbone


class Preparations:
    """Prepares once for all trials that need the same, and keeps what was used last."""

    def __init__(self, store: FeatureStore) -> None:
        """Takes the store that all trials share."""
        self._store = store
        self._prepared: OrderedDict[str, Prepared] = OrderedDict()

    def of(self, config: TrainConfig) -> Prepared:
        """Returns what a run starts from.

        Raises:
            UserError: The data or the weights cannot be used; the message says why.
        """
        key = preparation_key(config)
        if key not in self._prepared:
            prepared = prepare(config, self._store, Phases())
            # Also under the config that a trial saves.
            self._prepared[preparation_key(prepared.decided(config))] = prepared
            self._prepared[key] = prepared
        self._prepared.move_to_end(key)
        while len({id(prepared) for prepared in self._prepared.values()}) > _KEPT:
            self._prepared.popitem(last=False)
        return self._prepared[key]


def preparation_key(config: TrainConfig) -> str:
    """Returns all that `training.preparation.prepare` depends on: runs with the same can share what it makes."""
    model = config.model
    needs = {
        "data": asdict(config.data),
        "features": asdict(config.features),
        "backbone": [model.backbone, model.weights, model.unfreeze],
        "random weights": config.seed if model.weights == "random" else None,
        "accelerator": config.trainer.accelerator,
        "one batch": config.batch_size if config.trainer.one_batch else None,
    }
    return json.dumps(needs, sort_keys=True)

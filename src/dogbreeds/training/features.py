"""The features of one run: what its config asks for, from the store or from the trunk."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import torch

from dogbreeds.features.engines.reference import resolve_precision
from dogbreeds.features.source import FeatureSource
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.model.backbones import Backbone, trunk_of
from dogbreeds.schema import TrainConfig
from dogbreeds.training.datamodule import BreedDataModule, Features

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class RunFeatures:
    """What a run works with.

    Attributes:
        vectors: Pooled vectors of each split under the evaluation view: the head starts from them, and the exact
            reference is solved on them.
        inputs: What training and evaluation take for each split: the same vectors, augmented views of them, or
            the activations at the cut where a tail is trained.
        engine: What computed the inputs.
        precision: `fp32` or `bf16`.
        computed: Photos that went through the trunk now, views and cuts counted.
        reused: The same of those that the store had.
    """

    vectors: dict[str, Features]
    inputs: dict[str, Features]
    engine: str
    precision: str
    computed: int
    reused: int

    def counts(self) -> dict[str, int | str]:
        """Returns what metrics.json says of features."""
        return {
            "computed": self.computed,
            "reused": self.reused,
            "engine": self.engine,
            "precision": self.precision,
        }


def obtain(
    config: TrainConfig, store: FeatureStore, data: BreedDataModule, backbone: Backbone, device: torch.device
) -> RunFeatures:
    """Has everything that a run needs computed, or finds it; the data module then serves the inputs.

    Raises:
        UserError: Photos cannot be read, or there is no room for their features.
    """
    precision = resolve_precision(config.features.precision, device)

    def source_of(unfreeze: str | None, engine: str) -> FeatureSource:
        return FeatureSource(
            store,
            trunk_of(backbone, unfreeze),
            device=device,
            engine=engine,
            precision=precision,
            batch_size=config.features.batch_size,
            workers=config.data.workers,
            progress=_Log(),
        )

    sources = [source_of(None, config.features.engine)]
    vectors = data.obtain(sources[0], train_views=[0])
    data.inputs = vectors
    if config.model.unfreeze is not None:
        sources.append(source_of(config.model.unfreeze, sources[0].engine))
    if config.model.unfreeze is not None or config.data.views:
        data.inputs = data.obtain(sources[-1], train_views=range(1, config.data.views + 1) or [0])
    computed = sum(source.computed for source in sources)
    reused = sum(source.photos for source in sources) - computed
    log.info("features: %d computed, %d reused", computed, reused)
    return RunFeatures(vectors, data.inputs, sources[-1].engine, precision, computed, reused)


class _Log:
    """Says now and then how far a pass is and how long it will take."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._said < _SECONDS_BETWEEN_LINES:
            return
        self._said = now
        rate = done / (now - self._began)
        left = f", {(total - done) / rate:.0f} s left" if done < total else ""
        log.info("features %d/%d, %.0f photos/s%s", done, total, rate, left)

"""Where features come from: the store, for those that it has, and one pass of the trunk for the others."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import torch

from dogbreeds.data.images import DECODING
from dogbreeds.data.views import view_name
from dogbreeds.errors import CacheError, EngineError
from dogbreeds.features.cluster import Cluster
from dogbreeds.features.engines import ENGINES, Engine, available, build, candidates, choose, key_of, worker_count
from dogbreeds.features.extract import Extractor, LocalExtractor, fill
from dogbreeds.features.int8 import Calibration, quantise
from dogbreeds.features.store.array import FeatureArray
from dogbreeds.features.store.segments import ArrayKey, Layout, StoredRows
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.model.backbones import Trunk
from dogbreeds.model.network import Graph

log = logging.getLogger(__name__)

#: Called with (photos done, photos in total).
Progress = Callable[[int, int], None]
#: For each view (0 is evaluation, the others are augmentations), digests of photos.
Views = Mapping[int, Sequence[str]]
# A disk that twice damages what was just written will do so again.
_ATTEMPTS = 3


class FeatureSource:
    """Gives features of photos, and starts an engine only when some are missing.

    The engine is chosen at the first request, and serves all later ones. `computed` counts the photos, each view
    by itself, that went through the trunk in this process, and `photos` those whose features were loaded.
    """

    def __init__(
        self,
        store: FeatureStore,
        trunk: Trunk,
        *,
        device: torch.device,
        engine: str,
        precision: str,
        batch_size: int | None,
        workers: int | None,
        progress: Progress,
        calibration: Calibration | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        """Checks the setting `features.engine`; `precision` is a resolved one, for the others see `build`.

        What is missing is computed here, or by the workers of a cluster. `calibration` is what int8 alone needs.
        """
        self._store, self._trunk, self._device, self._requested = store, trunk, device, engine
        # Their features may have been computed on another machine.
        self._elsewhere = [name for name in ENGINES if engine in ("auto", name) and name not in available(device)]
        self._candidates = () if engine in self._elsewhere else candidates(engine, device)
        self._precision, self._batch_size, self._workers = precision, batch_size, worker_count(workers)
        self._progress, self._calibration, self._cluster = progress, calibration, cluster
        self._chosen: str | None = None
        self._running: Engine | None = None
        self._requests: set[tuple[int, str]] = set()
        self.computed = self.photos = 0

    @property
    def engine(self) -> str:
        """Name of the engine that computed the features, now or earlier."""
        if self._chosen is None:
            raise RuntimeError("The engine is chosen when features are first loaded.")
        return self._chosen

    @property
    def weights(self) -> str:
        return self._trunk.fingerprint

    def int8(self) -> Graph | None:
        """Returns the quantised trunk that computes the features; None where their precision is another."""
        calibration = self._calibration
        return None if calibration is None else quantise(self._trunk, calibration, self._store.blobs)

    def load(self, files: Mapping[str, Path], views: Views) -> tuple[dict[int, StoredRows], dict[str, str]]:
        """Returns features of photos, computing those that the store lacks.

        `files` are the digests of all photos, each with a file that holds its bytes.

        Returns:
            For each view the features of its readable photos, each once and in order; and the digests of files that
            are not images, with the reason. A photo that is unreadable under one view is left out of all.
        """
        unreadable = self._store.files.unreadable(files)
        for _ in range(_ATTEMPTS):
            unreadable |= self._complete(files, views, unreadable)
            wanted = _without(views, unreadable)
            arrays = self._arrays(self._choose(wanted), wanted)
            rows = {view: arrays[view].read(digests) for view, digests in wanted.items()}
            whole = {view: found for view, found in rows.items() if found is not None}
            if len(whole) == len(rows):
                self._requests |= {(view, digest) for view, digests in wanted.items() for digest in digests}
                self.photos = len(self._requests)
                return whole, unreadable
        said = f"cache.dir={self._store.directory} does not keep what is written there:"
        raise CacheError(f"{said} use another disk, or raise cache.max_gb if other runs push these features out.")

    def _complete(self, files: Mapping[str, Path], views: Views, unreadable: Collection[str]) -> dict[str, str]:
        """Computes what is missing, by another engine where the chosen one fails; returns what is unreadable."""
        wanted = _without(views, unreadable)
        while True:
            engine = self._choose(wanted)
            try:
                return self._fill(self._arrays(engine, wanted), wanted, files)
            except EngineError as error:
                if len(self._candidates) == 1:
                    raise
                log.warning("%s Continuing with another engine.", error)
                self._candidates = tuple(name for name in self._candidates if name != engine)
                self._chosen = None

    def _choose(self, wanted: Views) -> str:
        """The engine of all requests: the one that has the features of the first one soonest.

        That may be one that cannot run here, where no features of it are missing.
        """
        if self._chosen is not None:
            return self._chosen

        def missing(engine: str) -> int:
            arrays = self._arrays(engine, wanted)
            return sum(len(array.missing(wanted[view])) for view, array in arrays.items())

        counts = {name: missing(name) for name in self._candidates}
        complete = [name for name in self._elsewhere if not missing(name)] if all(counts.values()) else []
        if complete:
            self._chosen = complete[0]
        else:
            # Raises where the requested engine cannot run here.
            self._candidates = self._candidates or candidates(self._requested, self._device)
            self._chosen = choose(counts)
        return self._chosen

    def _arrays(self, engine: str, views: Views) -> dict[int, FeatureArray]:
        return {view: self._store.array(self.key(engine, view), self._layout) for view in views}

    def key(self, engine: str, view: int) -> ArrayKey:
        return ArrayKey(
            trunk=self._trunk.name,
            weights=self._trunk.fingerprint,
            transform=f"{self._trunk.transform} of decoding {DECODING}",
            engine=key_of(engine, self._precision, self._calibration.digest if self._calibration else ""),
            view=view_name(view),
        )

    @property
    def _layout(self) -> Layout:
        return Layout(self._trunk.shape, "float32" if len(self._trunk.shape) == 1 else "float16")

    def _fill(self, arrays: Mapping[int, FeatureArray], wanted: Views, files: Mapping[str, Path]) -> dict[str, str]:
        missing = {view: array.missing(wanted[view]) for view, array in arrays.items()}
        total = sum(map(len, missing.values()))
        if total == 0:
            return {}
        keys = {array.key for array in arrays.values()}
        self._store.make_room(total * self._layout.record.itemsize, keys)
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self._progress(done, total)

        unreadable: dict[str, str] = {}
        extractor = self._extractor()
        for view, digests in missing.items():
            left = {digest: files[digest] for digest in digests if digest not in unreadable}
            result = fill(arrays[view], left, extractor, view, advance)
            unreadable |= result.unreadable
            self.computed += result.computed
        self._store.files.remember_unreadable(unreadable)
        # Another pass that ran meanwhile, or a converted network, may have used the room too.
        self._store.trim(keys)
        return unreadable

    def _extractor(self) -> Extractor:
        log.info("features of %s by %s in %s", self._trunk.name, self.engine, self._precision)
        if self._cluster is not None:
            return self._cluster.extractor(self._trunk, self.engine, self._batch_size, self.int8())
        if self._running is None:
            self._running = build(
                self.engine,
                self._trunk.layers,
                self._trunk.fingerprint,
                self._trunk.transform,
                device=self._device,
                precision=self._precision,
                batch_size=self._batch_size,
                workers=self._workers,
                cache=self._store.blobs,
                int8=self.int8(),
            )
        return LocalExtractor(self._running, self._trunk.transform)


def _without(views: Views, unreadable: Collection[str]) -> dict[int, list[str]]:
    """The readable photos of each view, each once, in order."""
    return {
        view: [digest for digest in dict.fromkeys(digests) if digest not in unreadable]
        for view, digests in views.items()
    }

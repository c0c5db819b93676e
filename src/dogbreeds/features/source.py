"""Where features come from: the store, for what it has, and the trunk, once, for what it lacks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dogbreeds.data.images import DECODING
from dogbreeds.data.views import view_name
from dogbreeds.errors import CacheError, EngineError
from dogbreeds.features.engines import ENGINES, available, build, candidates, choose, lanes_of
from dogbreeds.features.engines.engine import Engine
from dogbreeds.features.extract import fill
from dogbreeds.features.store.array import FeatureArray
from dogbreeds.features.store.segments import ArrayKey, Layout, StoredRows
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.model.backbones import Trunk

log = logging.getLogger(__name__)

#: Called with (photos done, photos in all).
Progress = Callable[[int, int], None]
# A disk that damages what was just written twice will do so again.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Obtained:
    """Features of photos under one or more views.

    Attributes:
        rows: For each view, its photos' features.
        places: For each view, the position of a photo's digest in its rows.
        unreadable: Digests of files that are no images, with the reason.
    """

    rows: dict[int, StoredRows]
    places: dict[int, dict[str, int]]
    unreadable: dict[str, str]

    def of(self, photos: Sequence[str], view: int) -> StoredRows:
        """Returns the features of photos, which must be readable, in their order."""
        return self.rows[view].of([self.places[view][photo] for photo in photos])


class FeatureSource:
    """Gives features of photos, and starts an engine only when some are missing.

    The engine is chosen at the first request, and serves all later ones.

    Attributes:
        computed: Photos that went through the trunk in this process, each view counted.
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
    ) -> None:
        """Takes the settings of conf/train.yaml, section `features`.

        Args:
            store: Where features are kept.
            trunk: What computes them.
            device: Where it runs.
            engine: `auto`, or one of the engines.
            precision: `fp32` or `bf16`, resolved.
            batch_size: Images per forward pass; None is what suits the engine.
            workers: Threads that read photos; None is one per core.
            progress: Called as photos are finished.
        """
        self._store, self._trunk, self._device, self._requested = store, trunk, device, engine
        # Their features may have come from a machine that has them.
        self._elsewhere = [name for name in ENGINES if engine in ("auto", name) and name not in available(device)]
        self._candidates = () if engine in self._elsewhere else candidates(engine, device)
        self._precision, self._batch_size, self._lanes = precision, batch_size, lanes_of(workers)
        self._progress = progress
        self._engine_name: str | None = None
        self._running: Engine | None = None
        self._asked: set[tuple[int, str]] = set()
        self.computed = 0

    @property
    def engine(self) -> str:
        """Name of the engine that computed the features, now or earlier."""
        assert self._engine_name is not None, "chosen at the first request"
        return self._engine_name

    @property
    def photos(self) -> int:
        """Photos whose features were asked for, each view counted."""
        return len(self._asked)

    def obtain(self, files: Mapping[str, Path], views: Mapping[int, Sequence[str]]) -> Obtained:
        """Returns features of photos, computing those that the store lacks.

        Args:
            files: The digests of all photos, each with a file that holds its bytes.
            views: For each view, the digests of the photos that are wanted.

        Raises:
            DataError: A file has gone or changed.
            CacheError: The features do not fit into the store.
            ConfigError: Some are missing, and the engine cannot run here.
        """
        unreadable = self._store.files.unreadable(files)
        for _ in range(_ATTEMPTS + len(self._candidates)):
            wanted = _without(views, unreadable)
            arrays, missing = self._choose(wanted)
            try:
                unreadable |= self._fill(arrays, missing, files)
            except EngineError as error:
                if len(self._candidates) == 1:
                    raise
                log.warning("%s Going on with another one.", error)
                self._candidates = tuple(name for name in self._candidates if name != self.engine)
                self._engine_name = None
                continue
            wanted = _without(views, unreadable)
            rows = {view: arrays[view].read(photos) for view, photos in wanted.items()}
            whole = {view: found for view, found in rows.items() if found is not None}
            if len(whole) == len(rows):
                places = {view: {photo: n for n, photo in enumerate(photos)} for view, photos in wanted.items()}
                self._asked |= {(view, photo) for view, photos in wanted.items() for photo in photos}
                return Obtained(whole, places, unreadable)
        raise CacheError(
            f"cache.dir={self._store.directory} does not keep what is written there: use another disk, or raise "
            "cache.max_gb where other runs push it out."
        )

    def _choose(self, wanted: Mapping[int, Sequence[str]]) -> tuple[dict[int, FeatureArray], dict[int, list[str]]]:
        if self._engine_name is None:
            self._engine_name = self._soonest(wanted)
        arrays = {view: self._array(self._engine_name, view) for view in wanted}
        return arrays, {view: array.missing(wanted[view]) for view, array in arrays.items()}

    def _soonest(self, wanted: Mapping[int, Sequence[str]]) -> str:
        """The engine that has all features soonest: one that cannot run here only where none are missing."""

        def missing(name: str) -> int:
            return sum(len(self._array(name, view).missing(photos)) for view, photos in wanted.items())

        counts = {name: missing(name) for name in self._candidates}
        if all(counts.values()):
            whole = [name for name in self._elsewhere if not missing(name)]
            if whole:
                return whole[0]
        # Of one that was asked for and cannot run here, this says so.
        self._candidates = self._candidates or candidates(self._requested, self._device)
        return choose(counts, self._trunk.operations)

    def _array(self, engine: str, view: int) -> FeatureArray:
        key = ArrayKey(
            trunk=self._trunk.name,
            weights=self._trunk.fingerprint,
            transform=f"{self._trunk.transform} of decoding {DECODING}",
            engine=f"{engine} {self._precision}",
            view=view_name(view),
        )
        return self._store.array(key, self._layout())

    def _layout(self) -> Layout:
        return Layout(self._trunk.shape, "float32" if len(self._trunk.shape) == 1 else "float16")

    def _fill(
        self,
        arrays: Mapping[int, FeatureArray],
        missing: Mapping[int, Sequence[str]],
        files: Mapping[str, Path],
    ) -> dict[str, str]:
        total = sum(map(len, missing.values()))
        if total == 0:
            return {}
        size = total * self._layout().record.itemsize
        self._store.make_room(size, {array.key for array in arrays.values()})
        engine = self._engine()
        done = 0

        def advanced(count: int) -> None:
            nonlocal done
            done += count
            self._progress(done, total)

        unreadable: dict[str, str] = {}
        for view, photos in missing.items():
            left = {photo: files[photo] for photo in photos if photo not in unreadable}
            ended = fill(arrays[view], left, engine, self._trunk.transform, view, advanced)
            unreadable |= ended.unreadable
            self.computed += ended.computed
        self._store.files.remember_unreadable(unreadable)
        return unreadable

    def _engine(self) -> Engine:
        if self._running is None:
            name = self.engine
            log.info("features of %s by %s in %s", self._trunk.name, name, self._precision)
            self._running = build(
                name,
                self._trunk.layers,
                self._trunk.fingerprint,
                self._trunk.transform,
                device=self._device,
                precision=self._precision,
                batch_size=self._batch_size,
                lanes=self._lanes,
                keeper=self._store.artefacts,
            )
        return self._running


def _without(views: Mapping[int, Sequence[str]], unreadable: Collection[str]) -> dict[int, list[str]]:
    """The readable photos of each view, each once, in order."""
    return {
        view: [photo for photo in dict.fromkeys(photos) if photo not in unreadable] for view, photos in views.items()
    }

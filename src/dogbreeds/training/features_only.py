"""What takes photos and their features, but no training: the features themselves, and the audit."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from dogbreeds.debug.timeline import Phases
from dogbreeds.features.cluster import connect
from dogbreeds.features.engines import candidates, choose
from dogbreeds.schema import TrainConfig
from dogbreeds.training.preparation import data_module, prepare
from dogbreeds.training.run import open_store
from dogbreeds.training.trainer import quieten


def audit_photos(config: TrainConfig, out: Path) -> str:
    """Writes an audit.csv of the photos, trains nothing, and says what was found."""
    quieten()
    with open_store(config) as store:
        prepared = prepare(config, store, Phases())
        audit = prepared.audit(config, prepared.network(config).head)
    audit.save(out)
    return audit.summary()


def prepare_features(config: TrainConfig, cluster: str | None = None) -> dict[str, int | str]:
    """Fills the feature store with what `train` would need, and trains nothing.

    What is missing is computed here, or by the Ray cluster at an address.
    """
    quieten()
    connected = nullcontext() if cluster is None else connect(cluster, config)
    with connected as workers, open_store(config) as store:
        data = data_module(config, store)
        if workers is not None:
            data.cluster, data.device = workers, workers.device
        data.prepare(store, Phases())
        return data.features.counts()


def prepare_share(config: TrainConfig, number: int, count: int) -> None:
    """Fills the feature store with one of `count` shares, from 0, of what `train` would need.

    Every machine indexes all photos: all must agree on splits, and so on views, on the engine, and on the photos that
    calibrate int8.
    """
    quieten()
    with open_store(config) as store:
        data = data_module(config, store)
        data.index(store)
        data.folders.check(data.on_bad_image)
        engine = choose(dict.fromkeys(candidates(data.settings.engine, data.device), len(data.folders.files())))
        data.settings = replace(config.features, engine=engine)
        everything = data.folders
        data.folders = everything.share(number, count)
        data.load_backbone()
        data.load_features(store)
        # Decoding may have found more photos that cannot be read.
        data.folders = replace(everything, unreadable=data.folders.unreadable)
        data.folders.check(data.on_bad_image)

"""What takes photos and their features, but no training: the features themselves, and the audit."""

from pathlib import Path

from dogbreeds.debug.timeline import Phases
from dogbreeds.schema import TrainConfig
from dogbreeds.training.preparation import prepare
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


def prepare_features(config: TrainConfig) -> dict[str, int | str]:
    """Fills the feature store with what `train` would need, and trains nothing."""
    quieten()
    with open_store(config) as store:
        return prepare(config, store, Phases()).features.counts()

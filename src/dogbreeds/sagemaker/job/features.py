"""Moves features from the channel of a job into its store, and from its store to its output."""

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from dogbreeds.features.store.segments import SEGMENTS, SUFFIX, read_header
from dogbreeds.schema import TrainConfig


def import_features(store: Path, channel: Path) -> None:
    """Puts the features of a channel, segments or archives of them in any folder, into a new store.

    A store rebuilds its index from its segments and never writes to a segment that it did not start, so links to the
    read-only channel serve.
    """
    segments = store / SEGMENTS
    segments.mkdir(parents=True, exist_ok=True)
    for path in channel.rglob(f"*{SUFFIX}"):
        link = segments / path.name
        if not link.exists():
            link.symlink_to(path.resolve())
    for path in channel.rglob("*.tar.gz"):
        with tarfile.open(path) as members:
            for member in members:
                name = PurePosixPath(member.name).name
                content = members.extractfile(member) if member.isfile() and name.endswith(SUFFIX) else None
                if content is not None:
                    with content, (segments / name).open("wb") as file:
                        shutil.copyfileobj(content, file)


def export_features(store: Path, output: Path) -> None:
    """Copies the features of a store to where `import_features` can read them; no two stores name a segment alike."""
    output.mkdir(parents=True, exist_ok=True)
    for path in (store / SEGMENTS).glob(f"*{SUFFIX}"):
        shutil.copyfile(path, output / path.name)


def with_precision_of(config: TrainConfig, store: Path) -> TrainConfig:
    """Returns a config with the precision of the features in a store, unless it has set one.

    A CPU's own choice may differ from that of the instance that computed them.
    """
    headers = [read_header(path) for path in (store / SEGMENTS).glob(f"*{SUFFIX}")]
    precisions = {key.engine.split()[-1] for key, _ in filter(None, headers)}
    if config.features.precision != "auto" or len(precisions) != 1:
        return config
    return replace(config, features=replace(config.features, precision=precisions.pop()))

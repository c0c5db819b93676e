"""Features that travel: from the channel of a job into its store, and from its store to its output."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from dogbreeds.features.store.segments import SEGMENTS, SUFFIX, read_header
from dogbreeds.schema import TrainConfig


def stock(store: Path, channel: Path) -> None:
    """Puts the features of a channel into a new store: files of one, or what a job of features put out.

    A store makes its index of its segments, and never writes to one that it did not begin: the channel, which cannot
    be written to, lends its files by links.

    Args:
        store: The directory of the store, which nobody has opened yet.
        channel: Segments in any folder, or archives of them.
    """
    segments = store / SEGMENTS
    segments.mkdir(parents=True, exist_ok=True)
    for path in channel.rglob(f"*{SUFFIX}"):
        link = segments / path.name
        if not link.exists():
            link.symlink_to(path.resolve())
    for path in channel.rglob("*.tar.gz"):
        _unpack(path, segments)


def _unpack(archive: Path, segments: Path) -> None:
    with tarfile.open(archive) as members:
        for member in members:
            name = PurePosixPath(member.name).name
            content = members.extractfile(member) if member.isfile() and name.endswith(SUFFIX) else None
            if content is not None:
                with content, (segments / name).open("wb") as file:
                    shutil.copyfileobj(content, file)


def unstock(store: Path, output: Path) -> None:
    """Copies the features of a store, from which `stock` fills another one."""
    output.mkdir(parents=True, exist_ok=True)
    for path in (store / SEGMENTS).glob(f"*{SUFFIX}"):
        shutil.copyfile(path, output / path.name)


def in_stock(config: TrainConfig, store: Path) -> TrainConfig:
    """Returns a config that takes the precision of the features in a store, where it leaves the choice open.

    What a processor would choose for itself need not be what the machine that computed them chose.
    """
    headers = [read_header(path) for path in (store / SEGMENTS).glob(f"*{SUFFIX}")]
    precisions = {key.engine.split()[-1] for key, _ in filter(None, headers)}
    if config.features.precision != "auto" or len(precisions) != 1:
        return config
    return replace(config, features=replace(config.features, precision=precisions.pop()))

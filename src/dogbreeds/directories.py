"""Each run and each search has a directory of its own, and one process at a time writes there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.installation import command
from dogbreeds.overrides import name_of, override
from dogbreeds.run_directory import CHECKPOINTS, LOCK, METRICS, RUN_CONFIG, RUN_PARTS, SEARCH_CONFIG, TUNING_JOB


def claimed(directory: Path) -> Path:
    """Creates a directory, and returns it: with a number at its end where another process was faster."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    chosen, number = directory, 1
    while True:
        with suppress(FileExistsError):
            chosen.mkdir()
            return chosen
        number += 1
        chosen = directory.with_name(f"{directory.name}-{number}")


def is_typed(composed: DictConfig, name: str) -> bool:
    """Whether a setting of Hydra was typed."""
    return any(name_of(one) == name for one in composed.hydra.overrides.hydra)


def run_of(resume: str) -> Path:
    """Returns the run directory that `resume` names, itself or by one of its checkpoints."""
    place = Path(resume).expanduser()
    return place.parent.parent if place.suffix == ".ckpt" and place.parent.name == CHECKPOINTS else place


def check_unused(directory: Path) -> None:
    """Refuses a directory that holds a run or a search: files of two would be mixed."""
    if (directory / SEARCH_CONFIG).is_file():
        name = "launch" if (directory / TUNING_JOB).is_file() else "train"
        again = f"{command(name)} -m {override('resume', directory)}"
        raise ConfigError(
            f"{directory} holds a search already. Resume it with {again}, or choose another hydra.sweep.dir."
        )
    if (directory / METRICS).is_file():
        raise ConfigError(f"{directory} holds a finished run: choose another hydra.run.dir, or move that run away.")
    if any((directory / CHECKPOINTS).glob("*.ckpt")):
        again = f"{command('train')} {override('resume', directory)}"
        raise ConfigError(
            f"{directory} holds a run that did not finish. Continue it with {again}, or choose another hydra.run.dir."
        )


@contextmanager
def running(directory: Path, *, resumed: bool) -> Iterator[None]:
    """Makes a directory that of a run as long as it lasts.

    What an earlier run left there before its first epoch goes, but for its log.

    Raises:
        UserError: Another process writes there, or a new run would be mixed with what lies there.
    """
    with locked(directory):
        if not resumed:
            check_unused(directory)
            for path in [path for part in RUN_PARTS for path in directory.glob(part)]:
                path.unlink()
        yield


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other processes out of a directory, which is created, while this one writes there."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(directory / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"{directory}: another process is running there. Choose another directory.") from error


class OwnDirectory(Callback):
    """Gives a run its directory before Hydra writes there: one of its own where none was typed."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Sets `hydra.run.dir`; errors are left to Hydra, which creates the same directory next."""
        directory = Path(config.hydra.run.dir)
        # Commands that write no run stay where they are; other processes of a run are told its directory.
        if directory == Path() or int(os.environ.get("LOCAL_RANK", "0")):
            return
        if config.resume is not None:
            resumed = run_of(config.resume)
            # A mistyped name does not become a directory.
            config.hydra.run.dir = str(resumed) if (resumed / RUN_CONFIG).is_file() else "."
        elif not is_typed(config, "hydra.run.dir"):
            with suppress(OSError):
                config.hydra.run.dir = str(claimed(directory))

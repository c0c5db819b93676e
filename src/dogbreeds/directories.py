"""Each run and each search has a directory of its own, and one process at a time writes there."""

from __future__ import annotations

import itertools
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
    others = (directory.with_name(f"{directory.name}-{number}") for number in itertools.count(2))
    for chosen in itertools.chain([directory], others):
        with suppress(FileExistsError):
            chosen.mkdir()
            break
    return chosen


def is_typed(composed: DictConfig, name: str) -> bool:
    """Whether a setting of Hydra was typed."""
    return any(name_of(one) == name for one in composed.hydra.overrides.hydra)


def run_of(resume: str) -> Path:
    """Returns the run directory that `resume` names, itself or by one of its checkpoints."""
    place = Path(resume).expanduser()
    return place.parent.parent if place.suffix == ".ckpt" and place.parent.name == CHECKPOINTS else place


def check_unused(directory: Path) -> None:
    """Refuses a directory that holds a run or a search: files of two would be mixed."""
    resume = override("resume", directory)
    if (directory / SEARCH_CONFIG).is_file():
        again = f"{command('launch' if (directory / TUNING_JOB).is_file() else 'train')} -m {resume}"
        raise ConfigError(
            f"{directory} holds a search already. Resume it with {again}, or choose another hydra.sweep.dir."
        )
    if (directory / METRICS).is_file():
        raise ConfigError(f"{directory} holds a finished run: choose another hydra.run.dir, or move that run away.")
    if any((directory / CHECKPOINTS).glob("*.ckpt")):
        again = f"{command('train')} {resume}"
        raise ConfigError(
            f"{directory} holds a run that did not finish. Continue it with {again}, or choose another hydra.run.dir."
        )


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Creates a directory, and keeps other processes out of it while this one writes there."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(directory / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"{directory}: another process is running there. Choose another directory.") from error


@contextmanager
def new_run(directory: Path) -> Iterator[None]:
    """Does the same for a new run, without what one that was stopped before its first epoch left there."""
    with locked(directory):
        check_unused(directory)
        for path in [path for part in RUN_PARTS for path in directory.glob(part)]:
            path.unlink()
        yield


class OwnDirectory(Callback):
    """Gives a run its directory before Hydra writes there: one of its own where none was typed."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Sets `hydra.run.dir`; errors are left to Hydra, which creates the same directory next."""
        directory = Path(config.hydra.run.dir)
        # Commands that write no run stay where they are; other processes of a run are told its directory.
        if directory == Path() or os.environ.get("LOCAL_RANK", "0") != "0":
            return
        if config.resume is not None:
            resumed = run_of(config.resume)
            # A mistyped name does not become a directory.
            config.hydra.run.dir = str(resumed if (resumed / RUN_CONFIG).is_file() else Path())
        elif not is_typed(config, "hydra.run.dir"):
            with suppress(OSError):
                config.hydra.run.dir = str(claimed(directory))

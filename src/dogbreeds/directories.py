"""Each run and each search has a directory of its own, and one process at a time writes there."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.installation import command
from dogbreeds.overrides import override
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


def run_directory(resume: str | None, default: str) -> str:
    """Returns `hydra.run.dir` where none was typed; a mistyped `resume` does not become a directory."""
    if resume is not None:
        return str(run_of(resume) if (run_of(resume) / RUN_CONFIG).is_file() else Path())
    # Other processes of a run that torchrun starts write nothing.
    return str(claimed(Path(default))) if os.environ.get("LOCAL_RANK", "0") == "0" else default


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
    # Needs more time than --help has.
    from filelock import FileLock, Timeout

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

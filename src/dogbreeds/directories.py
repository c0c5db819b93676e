"""Each run and each search has a directory of its own, and one process at a time writes there."""

import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.run_directory import CHECKPOINTS, LOCK, METRICS, RUN_CONFIG, RUN_NAMES, SEARCH_CONFIG, TUNING_JOB

log = logging.getLogger(__name__)


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


def refuse_search(directory: Path) -> None:
    """Refuses a directory that holds a search, and says how that goes on."""
    if any((directory / name).is_file() for name in (SEARCH_CONFIG, TUNING_JOB)):
        name = "launch" if (directory / TUNING_JOB).is_file() else "train"
        again = f"Resume it with {command(name)} -m {override('resume', directory)}"
        raise ConfigError(f"{directory} holds a search already. {again}, or choose another directory.")


def make_way(directory: Path) -> None:
    """Moves a run that lies in a directory to one beside it: files of two are never mixed, and none is lost."""
    refuse_search(directory)
    if not (directory / RUN_CONFIG).is_file():
        return
    others = [path.name for path in directory.iterdir() if path.name not in RUN_NAMES and path.suffix != ".log"]
    if others:
        raise ConfigError(f"{directory} holds a run, and {others[0]}: choose another hydra.run.dir.")
    # The log would go on in the file that moves.
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()
    beside = claimed(directory.absolute().with_name(f"{directory.absolute().name}-before"))
    try:
        directory.rename(beside)
    except OSError as error:
        beside.rmdir()
        raise ConfigError(f"{directory} holds a run: choose another hydra.run.dir, or move it away.") from error
    directory.mkdir()
    log.info("The run that was in %s is in %s now.", directory, beside)
    if not (beside / METRICS).is_file():
        log.info("Continue it with %s %s", command("train"), override("resume", beside))


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
    """Does the same for a new run; one that lies there moves away."""
    with locked(directory):
        make_way(directory)
    with locked(directory):
        yield

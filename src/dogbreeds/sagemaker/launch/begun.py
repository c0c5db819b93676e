"""The jobs that this machine has begun: a command that was left finds its job again, and a search its directory."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from dogbreeds.config import load_saved, save
from dogbreeds.files import read_json, write_text
from dogbreeds.schema import TrainConfig

_REQUEST, _DIRECTORY = "request", "directory"
# SageMaker runs a training job for at most 28 days, and a tuning job for 30 (both are quotas of the service).
_KEPT_SECONDS = 30 * 24 * 3600.0


@contextmanager
def beginning() -> Iterator[None]:
    """Lets one process at a time begin a job: the same command, typed twice at once, begins one."""
    _place().mkdir(parents=True, exist_ok=True)
    with FileLock(_place() / "lock"):
        for path in [*_place().glob("*.json"), *_place().glob("*.yaml")]:
            if time.time() - path.stat().st_mtime > _KEPT_SECONDS:
                path.unlink()
        yield


def remember(name: str, digest: str, directory: Path | None) -> None:
    """Keeps the name of a job before it is asked for, with the digest of the request and where its results belong."""
    content = {_REQUEST: digest, _DIRECTORY: directory and str(directory.absolute())}
    write_text(_place() / f"{name}.json", json.dumps(content))


def finished(name: str) -> None:
    """Notes that the results of a job are here: the same command begins anew."""
    if _read(name):
        remember(name, "", directory_of(name))


def begun_by(digest: str) -> str | None:
    """Returns the latest job that a request began, and whose results are not here yet."""
    jobs = sorted(_place().glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path.stem for path in jobs if _read(path.stem).get(_REQUEST) == digest), None)


def directory_of(name: str) -> Path | None:
    """Returns where the results of a job belong, if it was begun on this machine."""
    found = _read(name).get(_DIRECTORY)
    return Path(found) if found else None


def remember_config(name: str, config: TrainConfig) -> None:
    """Keeps the config that a training job was begun with: the job does not know the paths of this machine."""
    save(config, _place() / f"{name}.yaml")


def config_of(name: str) -> TrainConfig | None:
    """Returns the config that a training job was begun with, if it was begun on this machine."""
    path = _place() / f"{name}.yaml"
    return load_saved(path) if path.is_file() else None


def _read(name: str) -> Mapping[str, Any]:
    return read_json(_place() / f"{name}.json")


def _place() -> Path:
    return Path(platformdirs.user_data_dir("dogbreeds")) / "jobs"

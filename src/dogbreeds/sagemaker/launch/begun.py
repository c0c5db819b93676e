"""The jobs that this machine has begun: a command that was left finds its job again, and a search its directory."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from dogbreeds.files import write_text

_REQUEST, _DIRECTORY = "request", "directory"


@contextmanager
def beginning() -> Iterator[None]:
    """Lets one process at a time begin a job: the same command, typed twice at once, begins one."""
    _place().mkdir(parents=True, exist_ok=True)
    with FileLock(_place() / "lock"):
        yield


def remember(name: str, digest: str, directory: Path) -> None:
    """Keeps the name of a job before it is asked for, with the digest of the request and where its results belong."""
    content = {_REQUEST: digest, _DIRECTORY: str(directory.absolute())}
    write_text(_place() / f"{name}.json", json.dumps(content))


def finished(name: str) -> None:
    """Notes that the results of a job are here: the same command begins anew."""
    if found := _read(name):
        remember(name, "", Path(found[_DIRECTORY]))


def begun_by(digest: str) -> str | None:
    """Returns the latest job that a request began, and whose results are not here yet."""
    jobs = sorted(_place().glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path.stem for path in jobs if _read(path.stem).get(_REQUEST) == digest), None)


def directory_of(name: str) -> Path | None:
    """Returns where the results of a job belong, if it was begun on this machine."""
    found = _read(name)
    return Path(found[_DIRECTORY]) if found else None


def _read(name: str) -> Mapping[str, Any]:
    path = _place() / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _place() -> Path:
    return Path(platformdirs.user_data_dir("dogbreeds")) / "jobs"

"""Finds the model package that a path on the command line means."""

import shlex
import tarfile
from pathlib import Path

from dogbreeds.config import read_yaml
from dogbreeds.errors import PackageError
from dogbreeds.files import reading
from dogbreeds.model.names import DESCRIPTION
from dogbreeds.run_directory import BEST, MODEL


def find_package(place: str) -> Path:
    """Returns the directory of a package: the path itself, or that of a run, or of a search's best trial."""
    path = Path(place)
    candidates = [path, path / MODEL]
    if (path / BEST).is_file():
        with reading(path / BEST, PackageError):
            candidates.append(path / str(read_yaml(path / BEST)["trial"]) / MODEL)
    for candidate in candidates:
        if (candidate / DESCRIPTION).is_file():
            return candidate
    if path.is_file() and tarfile.is_tarfile(path):
        raise PackageError(
            f"package={place} is an archive. Unpack it first: mkdir model && tar -xzf {shlex.quote(place)} -C model, "
            "then use package=model."
        )
    raise PackageError(
        f"package={place}: no {DESCRIPTION} there, nor in {path / MODEL}. Give a model package, or the directory of "
        "a run or a search that has one."
    )

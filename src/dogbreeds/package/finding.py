"""Which model package is meant by what was typed."""

from __future__ import annotations

from pathlib import Path

from dogbreeds.config import read_yaml
from dogbreeds.errors import PackageError
from dogbreeds.model.names import DESCRIPTION
from dogbreeds.run_directory import BEST

_MODEL = "model"


def find_package(place: str) -> Path:
    """Returns the package that a path means: it is one, or a run or a search whose best trial has one.

    Raises:
        PackageError: There is none.
    """
    path = Path(place)
    candidates = [path, path / _MODEL]
    if (path / BEST).is_file():
        candidates.append(path / str(read_yaml(path / BEST)["trial"]) / _MODEL)
    for candidate in candidates:
        if (candidate / DESCRIPTION).is_file():
            return candidate
    raise PackageError(
        f"package={place}: no {DESCRIPTION} there, nor in {path / _MODEL}. Name a model package, or the directory of "
        "a run or a search that has one."
    )

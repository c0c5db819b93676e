"""The code archive of a job, which AWS's toolkit unpacks, installs and starts."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dogbreeds.errors import UserError
from dogbreeds.files import pack

#: The archive's name in S3; the toolkit knows it by this one.
ARCHIVE = "sourcedir.tar.gz"
_FOLDERS = ("src", "conf")
_FILES = ("train.py",)
# Every image of PyTorch has these, built for its own CUDA; pip would put others in their place.
_OF_THE_IMAGE = frozenset({"torch", "torchvision"})
_LEVEL = 9


def requirements(pyproject: Path, extras: Sequence[str]) -> list[str]:
    """Returns what a job installs: the dependencies of the project but for those that the image brings.

    Args:
        pyproject: The project's pyproject.toml.
        extras: Its optional dependencies that the job needs, too.

    Raises:
        KeyError: The project has no such extra.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    brought = {text: canonicalize_name(Requirement(text).name) in _OF_THE_IMAGE for text in wanted}
    return [text for text, in_image in brought.items() if not in_image]


def code_members(project: Path, extras: Sequence[str]) -> dict[str, Path | bytes]:
    """Returns the members of the code archive by their paths in it.

    Raises:
        UserError: The project is installed without its checkout, and a job needs conf/ and train.py.
    """
    missing = [name for name in (*_FOLDERS, *_FILES, "pyproject.toml") if not (project / name).exists()]
    if missing:
        raise UserError(f"{project} has no {', '.join(missing)}: run the command from a checkout of the project.")
    found = [path for folder in _FOLDERS for path in (project / folder).rglob("*") if _is_code(path)]
    paths = [*found, *(project / name for name in _FILES)]
    listed = "\n".join(requirements(project / "pyproject.toml", extras)) + "\n"
    members: dict[str, Path | bytes] = {path.relative_to(project).as_posix(): path for path in paths}
    return members | {"requirements.txt": listed.encode()}


def pack_code(project: Path, archive: Path, extras: Sequence[str]) -> None:
    """Writes the code archive of a checkout; the same code gives the same bytes."""
    pack(archive, code_members(project, extras), _LEVEL)


def _is_code(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts[-2:])
    made = any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)
    return path.is_file() and not hidden and not made

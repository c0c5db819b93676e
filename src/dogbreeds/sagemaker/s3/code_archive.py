"""The code archive of a job, which AWS's toolkit unpacks, installs and starts."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dogbreeds.files import pack
from dogbreeds.installation import conf_directory

#: The archive's name in S3; the toolkit knows it by this one.
ARCHIVE = "sourcedir.tar.gz"
_PYPROJECT = "pyproject.toml"
# Packages of the distribution, by which it is found where it is installed.
_PACKAGES = ("dogbreeds", "hydra_plugins.dogbreeds_sweepers")
# Every image of PyTorch has these, built for its own CUDA; pip would put others in their place.
_OF_THE_IMAGE = frozenset({"torch", "torchvision"})


def requirements(project: Path, extras: Sequence[str]) -> list[str]:
    """Returns what a job installs: the project's dependencies with some extras, without those of the image."""
    wanted = [Requirement(text) for text in _dependencies(project, extras)]
    return [str(one) for one in wanted if canonicalize_name(one.name) not in _OF_THE_IMAGE]


def _dependencies(project: Path, extras: Sequence[str]) -> Iterator[str]:
    if _is_checkout(project):
        described = tomllib.loads((project / _PYPROJECT).read_text(encoding="utf-8"))["project"]
        yield from described["dependencies"]
        for extra in extras:
            yield from described["optional-dependencies"][extra]
        return
    for one in map(Requirement, metadata.requires("dogbreeds") or ()):
        marker, one.marker = one.marker, None
        # Jobs run on Linux, wherever they are sent from.
        there = [{"extra": extra, "sys_platform": "linux"} for extra in ("", *extras)]
        if marker is None or any(map(marker.evaluate, there)):
            yield str(one)


def code_members(project: Path, extras: Sequence[str]) -> dict[str, Path | bytes]:
    """Returns the members of the code archive by their paths in it: src/ and conf/, as in a checkout.

    Where the project is no checkout, the installed package is packed.
    """
    if _is_checkout(project):
        folders = {name: project / name for name in ("src", "conf")}
        # It tells a job that commands are typed as in a checkout.
        alone = {"train.py": project / "train.py"}
    else:
        folders, alone = {"conf": conf_directory()}, {}
        for name in _PACKAGES:
            (place,) = importlib.import_module(name).__path__
            folders[f"src/{name.replace('.', '/')}"] = Path(place)
    members: dict[str, Path | bytes] = {
        f"{folder}/{path.relative_to(place).as_posix()}": path
        for folder, place in folders.items()
        for path in place.rglob("*")
        if _is_code(path) and (folder == "conf" or not path.is_relative_to(conf_directory()))
    }
    listed = "\n".join(requirements(project, extras)) + "\n"
    return members | alone | {"requirements.txt": listed.encode()}


def pack_code(project: Path, archive: Path, extras: Sequence[str]) -> None:
    """Writes the code archive of a checkout or of the installed package; the same code gives the same bytes."""
    pack(archive, code_members(project, extras), level=9)


def _is_checkout(project: Path) -> bool:
    return (project / _PYPROJECT).is_file() and (project / "train.py").is_file()


def _is_code(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts[-2:])
    made = any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)
    return path.is_file() and not hidden and not made

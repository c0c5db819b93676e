"""The code archive of a job, which AWS's toolkit unpacks, installs and starts."""

import importlib
import tomllib
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from dogbreeds.files import pack, yaml_beside
from dogbreeds.installation import conf_directory

#: The archive's name in S3; the toolkit knows it by this one.
ARCHIVE = "sourcedir.tar.gz"
_PYPROJECT = "pyproject.toml"
# Packages of the distribution, by which it is found where it is installed.
_PACKAGES = ("dogbreeds", "hydra_plugins.dogbreeds_sweepers")
# Every image of PyTorch has these, built for its own CUDA; pip would put others in their place.
_OF_THE_IMAGE = frozenset({"torch", "torchvision"})
_LEFT_TO_THE_IMAGE: list[str] = yaml_beside(__file__, "left_to_the_image.yaml")


def requirements(project: Path, extras: Sequence[str]) -> list[str]:
    """Returns what a job installs: the project's dependencies with some extras, without those of the image.

    What the image lacks has the version that was tested, so that a job that Spot interrupted resumes with the same
    Lightning. What these need in turn is left to pip, which keeps what the image has of it.
    """
    tested, listed = _tested(project), []
    for one in map(Requirement, _dependencies(project, extras)):
        name = canonicalize_name(one.name)
        version = None if name in _LEFT_TO_THE_IMAGE else tested.get(name)
        if version is not None and one.specifier.contains(version, prereleases=True):
            one.specifier = SpecifierSet(f"=={version}")
        listed += [] if name in _OF_THE_IMAGE else [str(one)]
    return listed


def _tested(project: Path) -> dict[str, str]:
    """Returns versions by canonical name: those that the checkout pins, or those that are installed here."""
    pins = project / "constraints.txt"
    if _is_checkout(project) and pins.is_file():
        lines = [line.partition("==") for line in pins.read_text(encoding="utf-8").splitlines()]
        return {canonicalize_name(name): version for name, equals, version in lines if equals}
    return {canonicalize_name(one.name): one.version for one in metadata.distributions()}


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

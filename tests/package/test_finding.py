from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from dogbreeds.errors import ConfigError, PackageError
from dogbreeds.package.finding import find_package
from dogbreeds.package.package import DESCRIPTION
from dogbreeds.run_directory import BEST


def package(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / DESCRIPTION).touch()
    return directory


def test_packages_runs_and_searches(tmp_path: Path) -> None:
    run, best = package(tmp_path / "run" / "model"), package(tmp_path / "search" / "3" / "model")
    (tmp_path / "search" / BEST).write_text("trial: 3")
    for place, wanted in ((run, run), (run.parent, run), (tmp_path / "search", best)):
        assert find_package(str(place)) == wanted


@pytest.mark.parametrize("content", ["", "[3]", "3", "overrides: []", "{"])
def test_a_best_trial_that_is_not_named(content: str, tmp_path: Path) -> None:
    (tmp_path / BEST).write_text(content)
    with pytest.raises((PackageError, ConfigError), match=BEST):
        find_package(str(tmp_path))


def test_an_archive_says_how_to_unpack_it(tmp_path: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(package(tmp_path / "model"), "model")
    with pytest.raises(PackageError, match=f"tar -xzf {archive} -C model, then use package=model"):
        find_package(str(archive))


def test_no_package(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"photo")
    for name in ("missing", "photo.jpg"):
        with pytest.raises(PackageError, match=f"package=.*{name}: no model.json there"):
            find_package(str(tmp_path / name))

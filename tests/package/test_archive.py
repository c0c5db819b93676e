from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from packaging.requirements import Requirement

import dogbreeds
from dogbreeds.data.transform import Transform
from dogbreeds.errors import PackageError
from dogbreeds.limits import RequestLimits
from dogbreeds.model.backbones import cut, load_backbone
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.network import Network
from dogbreeds.package.archive import archive_for
from dogbreeds.package.package import (
    DESCRIPTION,
    WEIGHTS,
    Description,
    load_package,
    read_description,
    save_package,
    write_description,
)

SERVED = {"config.yaml", "deployment.py", "code/dogbreeds/package/predictor.py", "code/dogbreeds/serve/app.py"}
REQUIREMENTS = "code/requirements.txt"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    description = Description(
        classes=["Beagle", "Pug"],
        backbone="squeezenet1_1",
        pretrained=False,
        unfreeze=None,
        transform=Transform(70, 64, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)),
        head=HeadShape("linear", 512, 2),
        engine="openvino",
        precision="fp32",
        temperature=1.0,
    )
    backbone = load_backbone("squeezenet1_1", "random", seed=3)
    trunk, tail = cut(backbone.stages, description.transform, description.unfreeze)
    directory = tmp_path_factory.mktemp("run") / "model"
    save_package(directory, description, Network(trunk, tail, Head(description.head).eval()))
    return directory


@pytest.fixture
def package(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def opened(archive: Path) -> Path:
    directory = archive.parent / archive.name.partition(".")[0]
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    return directory


def files(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def deployment(directory: Path) -> dict[str, Any]:
    (application,) = yaml.safe_load((directory / "config.yaml").read_text(encoding="utf-8"))["applications"]
    # The containers of SageMaker post to this path only.
    assert application["route_prefix"] == "/"
    assert application["import_path"] == "deployment:app"
    (found,) = application["deployments"]
    return {**found, "limits": RequestLimits(**application["args"])}


@pytest.fixture(scope="module")
def archive(saved: Path) -> Path:
    made = saved.parent / "model.tar.gz"
    archive_for(saved, made, gpus=0, requirements=True)
    return made


def test_an_archive_holds_the_package_and_what_serves_it(saved: Path, archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive, mode="r:gz") as tar:
        members = tar.getmembers()
        tar.extractall(tmp_path / "opened", filter="data")
    names = {member.name for member in members}
    assert {DESCRIPTION, WEIGHTS, REQUIREMENTS, *SERVED} <= names
    assert all(name.startswith("code/dogbreeds/") for name in names - {DESCRIPTION, WEIGHTS, REQUIREMENTS, *SERVED})
    assert all(
        (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 0) for member in members
    )
    for name in files(saved):
        assert (tmp_path / "opened" / name).read_bytes() == (saved / name).read_bytes()


def test_the_same_package_gives_the_same_archive(archive: Path, package: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(package.rglob("*"))):
        os.utime(path, (number, number))
        path.chmod(0o600 if number % 2 else 0o664)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "errors.cpython-311.pyc").write_bytes(b"compiled")
    archive_for(package, tmp_path / "another.tar.gz", gpus=0, requirements=True)
    assert archive.read_bytes() == (tmp_path / "another.tar.gz").read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_an_interrupted_archive_is_not_published(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(b"before")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tarfile.TarFile, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        archive_for(saved, archive, gpus=0, requirements=True)
    assert archive.read_bytes() == b"before"


def test_what_ray_reserves_is_what_the_machine_has(saved: Path, tmp_path: Path) -> None:
    found = {}
    for gpus in (0, 1, 4):
        archive_for(saved, tmp_path / f"{gpus}.tar.gz", gpus=gpus, requirements=True)
        one = deployment(opened(tmp_path / f"{gpus}.tar.gz"))
        found[gpus] = (one["autoscaling_config"]["min_replicas"], one["ray_actor_options"]["num_gpus"])
    assert found == {0: (1, 0), 1: (1, 1), 4: (4, 1)}


def test_the_settings_are_the_documented_ones(archive: Path, tmp_path: Path) -> None:
    shutil.copy(archive, tmp_path)
    found = deployment(opened(tmp_path / archive.name))
    assert found["limits"].body_bytes == 6_291_456
    # Ray refuses in plain text, and must not come first.
    assert found["max_ongoing_requests"] > found["limits"].waiting


@pytest.mark.parametrize(
    ("engine", "gpus", "requirements", "installed"),
    [
        ("openvino", 0, True, True),
        ("cuda", 0, True, True),
        ("torch", 0, True, False),
        ("openvino", 1, True, False),
        ("openvino", 0, False, False),
    ],
)
def test_openvino_is_installed_only_where_it_serves(
    engine: str, gpus: int, requirements: bool, installed: bool, package: Path, tmp_path: Path
) -> None:
    described = read_description(package)
    described.engine = engine
    write_description(package, described)
    archive_for(package, tmp_path / "made.tar.gz", gpus=gpus, requirements=requirements)
    directory = opened(tmp_path / "made.tar.gz")
    assert (REQUIREMENTS in files(directory)) == installed
    if installed:
        lines = (directory / REQUIREMENTS).read_text(encoding="utf-8").splitlines()
        # What serves here, so that an instance that starts later does not serve with another.
        assert lines[1:] == [f"openvino=={metadata.version('openvino')}"]


def test_an_older_package_gets_todays_code_and_keeps_the_rest(package: Path, tmp_path: Path) -> None:
    (package / "code" / "dogbreeds").mkdir(parents=True)
    (package / "code" / "dogbreeds" / "errors.py").write_text("old", encoding="utf-8")
    (package / "code" / "dogbreeds" / "dropped.py").touch()
    (package / "examples").mkdir()
    (package / "examples" / "1.jpg").write_bytes(b"photo")
    load_package(package)
    archive_for(package, tmp_path / "made.tar.gz", gpus=0, requirements=False)
    directory = opened(tmp_path / "made.tar.gz")
    assert {DESCRIPTION, WEIGHTS, "examples/1.jpg", *SERVED} <= files(directory)
    assert "code/dogbreeds/dropped.py" not in files(directory)
    assert "class UserError" in (directory / "code" / "dogbreeds" / "errors.py").read_text(encoding="utf-8")
    before, after = (load_package(one)[1].head.state_dict() for one in (package, directory))
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    # The package itself stays as it was.
    assert (package / "code" / "dogbreeds" / "dropped.py").exists()


@pytest.mark.slow
def test_the_code_of_an_archive_wins_over_what_is_installed(archive: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.serve", reason="Ray Serve is not installed")
    shutil.copy(archive, tmp_path)
    served = opened(tmp_path / archive.name)
    program = "import deployment, dogbreeds; print(dogbreeds.__file__, deployment.Classifier.package)"
    source = str(Path(dogbreeds.__file__).parents[1])
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        # As `serve run` puts this directory first.
        cwd=served,
        env={**os.environ, "PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == [str(served / "code" / "dogbreeds" / "__init__.py"), str(served)]


def test_no_archive_is_made_of_what_is_no_package(package: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="is not a model package"):
        archive_for(package.parent, tmp_path / "made.tar.gz", gpus=0, requirements=True)
    (package / DESCRIPTION).write_text(json.dumps({"format": 99}), encoding="utf-8")
    with pytest.raises(PackageError, match="newer version"):
        archive_for(package, tmp_path / "made.tar.gz", gpus=0, requirements=True)
    assert not (tmp_path / "made.tar.gz").exists()


@pytest.mark.parametrize(
    ("library", "engine", "gpus", "expected"),
    [
        ("torchvision", "openvino", 0, ["openvino"]),
        ("timm", "openvino", 0, ["openvino", "timm"]),
        ("timm", "torch", 0, ["timm"]),
        ("timm", "cuda", 1, ["timm"]),
        ("torchvision", "cuda", 1, []),
    ],
)
def test_what_a_container_installs(
    library: str, engine: str, gpus: int, expected: list[str], package: Path, tmp_path: Path
) -> None:
    description = replace(read_description(package), library=library, engine=engine)
    write_description(package, description)
    archive_for(package, tmp_path / "made.tar.gz", gpus=gpus, requirements=True)
    file = opened(tmp_path / "made.tar.gz") / REQUIREMENTS
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    assert [Requirement(line).name for line in lines if not line.startswith("#")] == expected

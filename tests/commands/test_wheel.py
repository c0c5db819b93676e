"""The wheel, installed where there is no checkout: it is complete, and its command trains as train.py does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SMALL = ["model=squeezenet1_1", "model.weights=random", "trainer=cpu", "epochs=2", "batch_size=12"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves a folder behind, whose files a later wheel would get too."""
    place = tmp_path_factory.mktemp("wheel")
    for name in ("src", "conf"):
        shutil.copytree(
            ROOT / name, place / "project" / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / "project")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(place), str(place / "project")], check=True)
    (built,) = place.glob("*.whl")
    return built


def test_the_content_of_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entries,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "dogbreeds = dogbreeds.commands:main" in archive.read(entries).decode()
    installed = {name for name in names if ".dist-info/" not in name}
    folders = {"dogbreeds/conf": ROOT / "conf"}
    folders |= {path.name: path for path in (ROOT / "src").iterdir() if not path.name.endswith(".egg-info")}
    expected = set()
    for name, folder in folders.items():
        files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        expected |= {f"{name}/{path.relative_to(folder).as_posix()}" for path in files}
    assert installed == expected
    assert not [name for name in names if "bench" in name]


@pytest.mark.ci
def test_an_installed_package_trains_as_the_checkout_does(wheel: Path, sample: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True)
    elsewhere.mkdir()
    (elsewhere / "conf" / "experiment").mkdir(parents=True)
    (elsewhere / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nepochs: 2\n")

    def run(directory: Path, *arguments: str) -> str:
        environment = dict(os.environ) | ({"PYTHONPATH": str(site)} if directory == elsewhere else {})
        done = subprocess.run(
            [sys.executable, *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    here = [*SMALL, f"data.dir={sample}", f"cache.dir={tmp_path / 'cache'}"]
    settings = [setting for setting in here if not setting.startswith("epochs=")]
    run(ROOT, "train.py", *here, f"hydra.run.dir={tmp_path / 'checkout'}")
    mine = ["--config-dir", "conf", "experiment=mine", *settings, "hydra.run.dir=run"]
    said = run(elsewhere, "-m", "dogbreeds", "train", *mine)
    assert f"dogbreeds predict package={elsewhere / 'run'}" in said
    call = f"from dogbreeds import train; train(*{here!r}, **{{'hydra.run.dir': 'called'}})"
    run(elsewhere, "-c", call)
    found = []
    for directory in (tmp_path / "checkout", elsewhere / "run", elsewhere / "called"):
        metrics = json.loads((directory / "metrics.json").read_text())
        del metrics["seconds"], metrics["features"]
        found.append(metrics)
    assert found[0] == found[1] == found[2]
    photo = next((sample / "test").rglob("*.jpg"))
    answer = run(elsewhere, str(site / "bin" / "dogbreeds"), "predict", "package=run", f"images={photo}")
    assert json.loads(answer)["path"] == str(photo)
    packed = (
        "from pathlib import Path; from dogbreeds.sagemaker.s3.code_archive import code_members;"
        "members = code_members(Path.cwd(), []);"
        "assert {'conf/train.yaml', 'src/dogbreeds/sagemaker/job/main.py', 'requirements.txt'} <= set(members);"
        "assert not [name for name in members if name.startswith('src/dogbreeds/conf/')];"
        "assert b'torch>' not in members['requirements.txt'] and b'hydra-core' in members['requirements.txt']"
    )
    run(elsewhere, "-c", packed)

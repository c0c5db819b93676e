"""Shared fixtures: composed configs, a tiny drawn sample, the real photos where they are."""

from __future__ import annotations

import copy
import functools
import os
import re
import tempfile

# Test processes share the cores, and threads of small operations that wait for each other take far longer.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The features and converted networks of the person who tests are neither used nor added to; commands that tests
# start inherit this.
_CACHE = tempfile.TemporaryDirectory(prefix="dogbreeds-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name
os.environ["XDG_DATA_HOME"] = f"{_CACHE.name}/data"
os.environ["XDG_CONFIG_HOME"] = f"{_CACHE.name}/config"
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{_CACHE.name}/mlflow.db"

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from dogbreeds import composing, entry
from dogbreeds.config import load
from dogbreeds.schema import TrainConfig

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

Compose = Callable[..., TrainConfig]
# Settings of a test's own places, which need not be composed.
PLACE = re.compile(r"(data\.dir|run_dir|cache\.dir)=/[\w/.-]+")


composing.register()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """To look for garbage among what tests import would take as long as the imports."""
    with entry.importing():
        return (yield)


def pytest_unconfigure() -> None:
    _CACHE.cleanup()


@functools.lru_cache(maxsize=100)
def _composed(name: str, overrides: tuple[str, ...], with_hydra: bool) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(name, list(overrides), return_hydra_config=with_hydra)


def composed(name: str, overrides: Sequence[str], *, with_hydra: bool = False) -> DictConfig:
    """Composes what a command line says; what was composed before is copied, which takes a twentieth of the time."""
    composing.register()
    return copy.deepcopy(_composed(name, tuple(overrides), with_hydra))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn dogs of three breeds, small enough for a run of seconds."""
    from dogbreeds.data.sample import make_sample

    directory = tmp_path_factory.mktemp("drawn") / "sample"
    make_sample(directory, breeds=3, train=12, valid=6, test=6, pixels=64, seed=1)
    return directory


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The override that names a rehearsal of its own for a file of tests, which ends with them."""
    from local_sagemaker import stop

    directory = tmp_path_factory.mktemp("rehearsal")
    yield f"sagemaker.rehearsal_dir={directory}"
    stop(directory)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where features are kept for all tests that ask for nothing of how they were computed."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def own_cache(tmp_path: Path) -> Path:
    """Where features of `config` are kept; a file of tests that do not count them replaces it by `cache`."""
    return tmp_path / "cache"


@pytest.fixture
def config(sample: Path, tmp_path: Path, own_cache: Path) -> Compose:
    """Composes a checked config of a small run, with overrides, as the command line would."""
    places = [tmp_path / f"run{end}" for end in ("", *(f"-{number}" for number in range(2, 30)))]

    def made(*overrides: str) -> TrainConfig:
        # Each run has a directory of its own: run, run-2, run-3.
        unused = next(place for place in places if not (place / "config.yaml").exists())
        small = [
            f"data.dir={sample}",
            f"run_dir={unused}",
            "model=squeezenet1_1",
            "model.weights=random",
            "trainer=cpu",
            "batch_size=12",
            "epochs=3",
            f"cache.dir={own_cache}",
        ]
        given = {override.split("=")[0] for override in overrides}
        if "trainer=debug" in overrides:
            given |= {"epochs", "cache.dir"}
        typed = [*(override for override in small if override.split("=")[0] not in given), *overrides]
        later = [override for override in typed if PLACE.fullmatch(override)]
        found = composed("train", [override for override in typed if override not in later])
        found.merge_with_dotlist(later)
        return load(found, list(overrides))

    return made


@pytest.fixture
def photos() -> Path:
    """Real photos of ten breeds."""
    directory = SHARED / "data" / "woof10"
    if not directory.is_dir():
        pytest.skip(f"the real photos are not there: {directory}")
    return directory


@pytest.fixture
def squeezenet_weights() -> Path:
    """Real ImageNet weights of squeezenet1_1."""
    file = SHARED / "weights" / "squeezenet1_1_imagenet.pth"
    if not file.is_file():
        pytest.skip(f"the real weights are not there: {file}")
    return file

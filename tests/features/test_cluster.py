"""The pass on a Ray cluster: the store is that of one process, though workers are killed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import ray
import torch
from hydra import compose, initialize_config_dir

from dogbreeds import composing
from dogbreeds.errors import DataError, UserError
from dogbreeds.features.cluster import _look, _Worker, connect
from dogbreeds.features.extract import LocalExtractor
from dogbreeds.features.source import FeatureSource
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.machine import compute_threads
from dogbreeds.model.backbones import load_backbone, trunk_of
from dogbreeds.schema import TrainConfig
from tests.conftest import ROOT
from tests.features.colours import CPU, TRANSFORM, ColourEngine, colours, digest, paint, trunk

COUNT = 240


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Photos of one colour each, and a file that is no photo."""
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(COUNT)]
    found = {paint(path, colour): path for path, colour in zip(paths, colours(COUNT), strict=True)}
    (tmp_path / "photos" / "notes.png").write_text("no photo")
    return found | {digest(tmp_path / "photos" / "notes.png"): tmp_path / "photos" / "notes.png"}


def test_a_worker_gives_what_one_thread_gives(files: dict[str, Path]) -> None:
    settings = {"device": CPU, "precision": "fp32", "batch_size": 7}
    with compute_threads(1):
        worker = _Worker(trunk(), settings, "torch", 2)
    assert worker.photos() >= 2 * 7
    features, unreadable = worker.extract(files, 0)
    alone, bad = LocalExtractor(ColourEngine(), TRANSFORM)(files, 0)
    assert features.tolist() == alone.tolist()
    assert len(bad) == 1 and unreadable == bad
    assert len(worker.extract(dict.fromkeys(bad, files[next(iter(bad))]), 0)[0]) == 0


def test_a_machine_that_does_not_see_the_photos(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder on .*mount-s3"):
        _look(tmp_path / "nowhere", "auto", CPU)


def test_no_cluster(config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("Nothing runs.")

    monkeypatch.setattr(ray, "init", refuse)
    with (
        pytest.raises(UserError, match=r"cluster\.address=auto: .*Nothing runs.*ray start --head"),
        connect("auto", config()),
    ):
        pass


def test_nobody_answers_at_an_address(config: Callable[..., TrainConfig]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(UserError, match=f"{address}: no Ray cluster answers"), connect(address, config()):
        pass


def test_the_settings() -> None:
    composing.register()
    for choice, expected in (("off", None), ("ray", "auto")):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            composed = compose("prepare_features", [f"cluster={choice}", "run_dir=somewhere"])
        assert composed.cluster.address == expected


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Three machines of one core, on the loopback address."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Ray replaces 127.0.0.1 by an address that others can reach.
    machine = {
        "num_cpus": 1,
        "node_ip_address": "127.0.0.2",
        "include_dashboard": False,
        "object_store_memory": 100 << 20,
    }
    cluster = Cluster(initialize_head=True, head_node_args=machine)
    try:
        for _ in range(2):
            cluster.add_node(**machine)
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.mark.ci
def test_workers_that_are_killed_cost_their_calls(
    address: str, files: dict[str, Path], store: FeatureStore, config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    backbone = load_backbone("squeezenet1_1", "random", 0, resolution=64)
    killed = []

    def kill(done: int, total: int) -> None:
        working = [one for one in psutil.Process().children(recursive=True) if one.name().startswith("ray::_Worker")]
        if not killed and done > total / 4 and working:
            # All of them, so that only workers that were started anew can finish.
            for one in working:
                one.kill()
                killed.append(one.pid)

    def source(store: FeatureStore, cluster: object = None) -> FeatureSource:
        settings = {"device": CPU, "engine": "openvino", "precision": "fp32", "batch_size": 2, "workers": 1}
        return FeatureSource(store, trunk_of(backbone, None), **settings, progress=kill, cluster=cluster)

    views = {0: list(files), 1: list(files)[: COUNT // 4]}
    one_process = source(store)
    expected, unreadable = one_process.load(files, views)
    with (
        FeatureStore(tmp_path / "second", 1e9) as other,
        connect(address, config("features.precision=fp32")) as cluster,
    ):
        assert cluster is not None and len(cluster.places) == 3
        asked, again = source(other, cluster), source(other, cluster)
        found, bad = asked.load(files, views)
        again.load(files, views)
    assert killed and (asked.computed, again.computed) == (one_process.computed, 0)
    assert bad == unreadable and len(bad) == 1
    for view, rows in expected.items():
        assert found[view].digests == rows.digests
        assert torch.equal(found[view].tensor(), rows.tensor())

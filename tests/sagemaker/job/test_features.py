"""Features of another machine, taken into a store."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pytorch_lightning.utilities import rank_zero_only

from dogbreeds.features.store.segments import SEGMENTS, SUFFIX, ArrayKey, Layout, Segment, SegmentWriter, read_header
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.sagemaker.job import main as container
from dogbreeds.sagemaker.job.callbacks import ParentWatch
from dogbreeds.sagemaker.job.environment import JobEnvironment
from dogbreeds.sagemaker.job.features import export_features, import_features, with_precision_of
from dogbreeds.sagemaker.protocol.hyperparameters import FEATURES, Task
from dogbreeds.schema import TrainConfig
from dogbreeds.training import features_only
from dogbreeds.training.features_only import prepare_features
from tests.conftest import Compose

LAYOUT = Layout((4,), "float32")
PHOTOS = ["ab" * 32, "cd" * 32]


def key(engine: str = "cuda bf16") -> ArrayKey:
    return ArrayKey("trunk", "weights", "transform", engine, "evaluation")


def channel(directory: Path, engine: str = "cuda bf16", name: str = "a") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    writer = SegmentWriter(directory / f"{name}.features", key(engine), LAYOUT)
    writer.append([bytes.fromhex(photo) for photo in PHOTOS], np.arange(8, dtype=np.float32).reshape(2, 4))
    writer.close()
    return directory


def held(store: Path) -> list[list[float]]:
    with FeatureStore(store, 1e9) as opened:
        rows = opened.array(key(), LAYOUT).read(PHOTOS)
        assert rows is not None
        return rows.tensor().tolist()


EXPECTED = [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]


def test_a_channel_of_files_fills_a_store_and_stays_as_it_is(tmp_path: Path) -> None:
    given = channel(tmp_path / "channel/deep")
    content = (given / "a.features").read_bytes()
    for _ in range(2):
        import_features(tmp_path / "store", tmp_path / "channel")
    assert held(tmp_path / "store") == EXPECTED
    with FeatureStore(tmp_path / "store", 1e9) as store:
        store.prune(lambda usage: False)
    assert (given / "a.features").read_bytes() == content


def test_the_output_of_a_job_of_features_fills_a_store(tmp_path: Path) -> None:
    import_features(tmp_path / "first", channel(tmp_path / "channel"))
    export_features(tmp_path / "first", tmp_path / "output/features")
    (tmp_path / "sent").mkdir()
    with tarfile.open(tmp_path / "sent/output.tar.gz", "w:gz") as members:
        members.add(tmp_path / "output", ".")
        outside = tarfile.TarInfo("../../b.features")
        outside.size = 1
        members.addfile(outside, io.BytesIO(b"x"))
        members.addfile(tarfile.TarInfo("train.log"), io.BytesIO())
    import_features(tmp_path / "second", tmp_path / "sent")
    assert {path.name for path in (tmp_path / "second" / SEGMENTS).iterdir()} == {"a.features", "b.features"}
    assert not list(tmp_path.glob("*.features"))
    assert held(tmp_path / "second") == EXPECTED


@pytest.mark.parametrize(
    ("engines", "wanted", "precision"),
    [
        (["cuda bf16"], "auto", "bf16"),
        (["torch fp32", "openvino fp32"], "auto", "fp32"),
        (["torch fp32", "cuda bf16"], "auto", "auto"),
        (["cuda bf16"], "fp32", "fp32"),
        ([], "auto", "auto"),
    ],
)
def test_a_run_takes_the_precision_of_what_is_there(
    config: Compose, tmp_path: Path, engines: list[str], wanted: str, precision: str
) -> None:
    for number, engine in enumerate(engines):
        channel(tmp_path / "store" / SEGMENTS, engine, name=str(number))
    found = with_precision_of(config(f"features.precision={wanted}"), tmp_path / "store")
    assert (found.features.precision, found.features.engine) == (precision, "auto")


# --- several hosts

Row = tuple[ArrayKey, bytes]


def rows(store: Path) -> dict[Row, np.ndarray]:
    """Returns all rows of a store's segments by key and photo; no photo is there twice."""
    found: dict[Row, np.ndarray] = {}
    for path in sorted((store / SEGMENTS).glob(f"*{SUFFIX}")):
        described = read_header(path)
        assert described is not None
        segment = Segment(path, *described)
        for place, digest in segment.proven():
            assert (described[0], digest) not in found
            found[described[0], digest] = segment.records["features"][place]
    return found


def environment(base: Path, number: int, count: int) -> JobEnvironment:
    """Returns that of one of a job's hosts; their checkpoints go to one place."""
    hosts = tuple(f"algo-{each + 1}" for each in range(count))
    return JobEnvironment(
        hyperparameters={},
        channels={},
        model=base / "model",
        output=base / "output",
        data=base / "output/data",
        checkpoints=base.parent / "checkpoints",
        hosts=hosts,
        host=hosts[number],
        gpus=0,
    )


def run_host(config: TrainConfig, around: JobEnvironment, monkeypatch: pytest.MonkeyPatch) -> JobEnvironment:
    """Runs the work of a host of a features job in this process."""
    given = replace(config, cache=replace(config.cache, dir=str(around.store)))
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "PL_TRAINER_NUM_NODES"):
        # So that what the job sets is taken back.
        monkeypatch.setenv(name, "")
    # A trainer of this host sets it for the process.
    monkeypatch.setattr(rank_zero_only, "rank", 0, raising=False)
    monkeypatch.setattr(container.Job, "_config", lambda job: given)
    container.Job(around, Task(FEATURES, 3600.0), around.snapshots(FEATURES), 0.0, ParentWatch()).run()
    return around


def merged(hosts: list[JobEnvironment], directory: Path) -> dict[Row, np.ndarray]:
    """Returns the rows of a store that takes the archive of all hosts' outputs."""
    directory.mkdir()
    with tarfile.open(directory / "output.tar.gz", "w:gz") as members:
        for host in hosts:
            members.add(host.data, ".")
    import_features(directory / "store", directory)
    return rows(directory / "store")


def assert_equal(found: dict[Row, np.ndarray], expected: dict[Row, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for row, features in expected.items():
        np.testing.assert_allclose(found[row], features, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_what_several_hosts_compute_is_the_store_of_one(
    config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = config("features.engine=torch", "data.views=1")
    prepare_features(wanted)
    expected = rows(Path(wanted.cache.dir))
    hosts = [run_host(wanted, environment(tmp_path / f"host-{each}", each, 3), monkeypatch) for each in range(3)]
    parts = [len(list((host.data / "features").iterdir())) for host in hosts]
    assert all(parts) and not [host for host in hosts[1:] if (host.data / "config.yaml").exists()]
    assert_equal(merged(hosts, tmp_path / "merged"), expected)


@pytest.mark.slow
def test_a_host_that_was_lost_goes_on_with_what_it_has_computed(
    config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = config("features.engine=torch", "features.batch_size=4", "data.workers=0")
    prepare_features(wanted)
    expected = rows(Path(wanted.cache.dir))
    whole, first = features_only.prepare_share, environment(tmp_path / "first", 1, 3)
    snapshots = first.snapshots(FEATURES)
    assert snapshots is not None

    def lost(config: TrainConfig, number: int, count: int) -> None:
        whole(config, number, count)
        segments = sorted((Path(config.cache.dir) / SEGMENTS).iterdir())
        with segments[0].open("r+b") as file:
            # The service copies files as they grow.
            file.truncate(segments[0].stat().st_size // 2)
        snapshots.save()
        raise RuntimeError("Spot takes the instance back")

    monkeypatch.setattr(container, "prepare_share", lost)
    with pytest.raises(RuntimeError):
        run_host(wanted, first, monkeypatch)
    kept: list[int] = []

    def resumed(config: TrainConfig, number: int, count: int) -> None:
        kept.append(len(rows(Path(config.cache.dir))))
        whole(config, number, count)

    monkeypatch.setattr(container, "prepare_share", resumed)
    hosts = [run_host(wanted, environment(tmp_path / f"host-{each}", each, 3), monkeypatch) for each in range(3)]
    assert kept[0] == kept[2] == 0 < kept[1]
    assert_equal(merged(hosts, tmp_path / "merged"), expected)

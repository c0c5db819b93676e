"""Features of another machine, taken into a store."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dogbreeds.features.store.segments import SEGMENTS, ArrayKey, Layout, SegmentWriter
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.sagemaker.job.features import export_features, import_features, with_precision_of
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

"""Photos that show none of the breeds, as packages of real runs see them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dogbreeds.serve.batch import find_images, load, rows
from dogbreeds.training.run import train
from tests.conftest import SHARED, Compose


def share_known(package: Path, paths: list[Path], cache: Path) -> float:
    return sum(row["known"] for row, _ in rows(load(package, cache), paths)) / len(paths)


@pytest.mark.ci
@pytest.mark.photos
def test_strangers_are_told_from_the_breeds(config: Compose, photos: Path, tmp_path: Path) -> None:
    weights = SHARED / "weights" / "tf_efficientnet_lite2.safetensors"
    others = SHARED / "data" / "others"
    if not weights.is_file() or not others.is_dir():
        pytest.skip(f"the real weights or the photos of other things are not there: {weights}, {others}")
    real = (f"data.dir={photos}", "model=tf_efficientnet_lite2", f"model.weights={weights}")
    result = train(config(*real, "optimizer=exact"))
    cache = tmp_path / "of the package"
    # What `known` is for photos of the run is tested on drawn dogs, which take less time.
    assert result.metrics["val/known"] >= 0.95
    assert result.metrics["test/known"] >= 0.93
    assert share_known(result.directory / "model", find_images(str(others / "no_dogs")), cache) <= 0.03
    assert share_known(result.directory / "model", find_images(str(others / "other_dogs")), cache) <= 0.4
    # Hidden layers are normalised: by the largest logit alone 15% of the photos without dogs would be known.
    hidden = train(config(*real, "model.head=mlp", "epochs=60", "batch_size=256"))
    assert hidden.metrics["test/known"] >= 0.9
    assert share_known(hidden.directory / "model", find_images(str(others / "no_dogs")), cache) <= 0.03

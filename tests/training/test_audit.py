"""The audit of a run: audit.csv, what is left out next time, and what is kept for later runs."""

from __future__ import annotations

import csv
import json
import logging
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from dogbreeds.config import load
from dogbreeds.errors import ConfigError
from dogbreeds.model.exact import ExactPath
from dogbreeds.model.suspects import Suspects, suspect_labels
from dogbreeds.training import audit
from dogbreeds.training.features_only import audit_photos
from dogbreeds.training.run import train
from tests.conftest import Compose
from tests.kaggle import kaggle

pytestmark = pytest.mark.slow


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def status(directory: Path) -> dict[str, str]:
    return {one["name"]: one["status"] for one in json.loads((directory / "rules.json").read_text())["rules"]}


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Path:
    """The sample with a test photo mirrored into train, one re-encoded into valid, and one twice in train."""
    root = Path(shutil.copytree(sample, tmp_path / "photos"))
    one, other, third = sorted((root / "test").rglob("*.jpg"))[:3]
    mirrored = Image.open(one).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mirrored.save(root / "train" / one.parent.name / "mirrored.jpg", quality=90)
    Image.open(other).save(root / "valid" / other.parent.name / "encoded.jpg", quality=60)
    third = sorted((root / "train").rglob("*.jpg"))[3]
    shutil.copy(third, third.with_name("zz_copy.jpg"))
    return root


def test_a_run_names_copies_and_leaves_them_out_next_time(config: Compose, folder: Path, tmp_path: Path) -> None:
    first = train(config(f"data.dir={folder}"))
    rows = read(first.directory / "audit.csv")
    assert list(rows[0]) == ["path", "label", "split", "suspicion", "suggested", "score"]
    kinds = [row["suspicion"] for row in rows]
    assert kinds == sorted(kinds, key=["label", "duplicate", "outlier"].index)
    copies = {row["path"]: row for row in rows if row["suspicion"] == "duplicate"}
    assert {Path(path).name for path in copies} == {"mirrored.jpg", "encoded.jpg", "zz_copy.jpg"}
    for path, row in copies.items():
        assert (folder / path).is_file() and (folder / row["suggested"]).is_file()
        assert row["split"] == path.split("/")[0]
    assert status(first.directory)["NearDuplicates"] == "IssuesFound"
    assert "copy of a test photo: leakage" in (first.directory / "report.html").read_text()

    file = tmp_path / "copies.csv"
    file.write_text("path\n" + "".join(f"{path}\n" for path in copies))
    second = train(config(f"data.dir={folder}", f"data.exclude={file}", f"run_dir={tmp_path / 'second'}"))
    assert second.metrics["excluded"] == 3
    assert second.metrics["images"] == {"train": 36, "valid": 18, "test": 18}
    assert second.metrics["features"]["computed"] == 0
    assert "NearDuplicates" not in second.issues
    assert "by data.exclude" in (second.directory / "report.html").read_text()


def test_copies_are_judged_as_one_picture(
    config: Compose, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(sample, tmp_path / "photos"))
    one, other = (sorted(folder.rglob("*.jpg"))[0] for folder in sorted((root / "train").iterdir())[:2])
    # With another label, as most wrong copies have.
    shutil.copy(one, other.with_name("same.jpg"))
    Image.open(one).save(other.with_name("encoded.jpg"), quality=60)
    Image.open(one).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(one.with_name("mirrored.jpg"), quality=90)
    given: list[Tensor] = []

    def judging(path: ExactPath, labels: Tensor, pictures: Tensor) -> Suspects:
        given.append(pictures)
        return suspect_labels(path, labels, pictures)

    monkeypatch.setattr(audit, "suspect_labels", judging)
    audit_photos(config(f"data.dir={root}"), tmp_path / "audit.csv")
    files = [file.relative_to(root).as_posix() for file in sorted((root / "train").rglob("*.jpg"))]
    pictures = dict(zip(files, given[0].tolist(), strict=True))
    assert len(set(pictures.values())) == 36
    group = [name for name in files if pictures[name] == pictures[one.relative_to(root).as_posix()]]
    assert {Path(name).name for name in group} == {one.name, "same.jpg", "encoded.jpg", "mirrored.jpg"}


@pytest.mark.ci
def test_a_resumed_run_leaves_out_the_same_photos(config: Compose, sample: Path, tmp_path: Path) -> None:
    file, again, labels = tmp_path / "wrong.txt", tmp_path / "run", kaggle(sample, tmp_path / "kaggle", splits=True)
    file.write_text(f"train/{0:032x}.jpg\n")
    whole = train(config(f"data.exclude={file}", f"data.dir={labels.parent}", f"data.labels={labels}"))
    file.unlink()
    labels.unlink()
    resumed = train(load(OmegaConf.create({"resume": str(again)}), [f"resume={again}"]))
    assert resumed.metrics["images"] == whole.metrics["images"] == {"train": 35, "valid": 18, "test": 18}
    with pytest.raises(ConfigError, match=r"data.exclude=.*wrong.txt: no such file"):
        config(f"data.exclude={file}")


@pytest.mark.ci
def test_an_audit_is_made_once(
    config: Compose, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    judged: list[int] = []

    def counting(*given: Any) -> Any:
        judged.append(1)
        return suspect_labels(*given)

    monkeypatch.setattr(audit, "suspect_labels", counting)
    settings = (f"data.dir={folder}", f"run_dir={tmp_path / 'nothing'}")
    said = audit_photos(config(*settings), tmp_path / "one.csv")
    assert "3 near-duplicates (2 across splits)" in said
    assert audit_photos(config(*settings, "lr=0.5"), tmp_path / "other.csv") == said
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "other.csv").read_bytes()
    assert len(judged) == 1
    assert not (tmp_path / "nothing").exists()
    with caplog.at_level(logging.INFO):
        train(config(f"data.dir={folder}"))
    assert f"audit.csv: {said}" in caplog.text
    assert len(judged) == 1
    (folder / "train").rglob("*.jpg").__next__().unlink()
    audit_photos(config(*settings), tmp_path / "one.csv")
    assert len(judged) == 2


def mislabelled(photos: Path, root: Path, count: int) -> set[Path]:
    """Copies real photos, moves some training photos to another class, and returns them."""
    shutil.copytree(photos, root, symlinks=True)
    drawn = random.Random(0)
    classes = sorted(folder.name for folder in (root / "train").iterdir())
    moved = set()
    for file in drawn.sample(sorted((root / "train").rglob("*.jpg")), count):
        wrong = drawn.choice([name for name in classes if name != file.parent.name])
        moved.add(file.rename(root / "train" / wrong / file.name))
    return moved


@pytest.mark.ci
@pytest.mark.photos
def test_changed_labels_of_real_photos(config: Compose, photos: Path, squeezenet_weights: Path, tmp_path: Path) -> None:
    """45 of 900 labels changed at random; then 30, with each file twice."""
    root, twice = tmp_path / "photos", tmp_path / "twice"
    moved = mislabelled(photos, root, 45)
    audit_photos(config(f"data.dir={root}", f"model.weights={squeezenet_weights}"), tmp_path / "audit.csv")
    first = {root / row["path"] for row in read(tmp_path / "audit.csv")[:60]}
    assert len(first & moved) >= 36

    moved = mislabelled(photos, twice, 30)
    for file in sorted((twice / "train").rglob("*.jpg")):
        shutil.copy(file, file.with_stem(f"{file.stem}_copy"))
    moved |= {file.with_stem(f"{file.stem}_copy") for file in moved}
    audit_photos(config(f"data.dir={twice}", f"model.weights={squeezenet_weights}"), tmp_path / "audit.csv")
    first = {twice / row["path"] for row in read(tmp_path / "audit.csv")[:75]}
    assert len(first & moved) >= 45

"""The one training run, end to end on drawn dogs and on real photos."""

from __future__ import annotations

import csv
import itertools
import json
import statistics
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dogbreeds.config import RUN_CONFIG, load
from dogbreeds.data.layout import find_photos
from dogbreeds.errors import DataError, UserError
from dogbreeds.model.backbones import fingerprint, load_backbone
from dogbreeds.model.classifier import BreedClassifier
from dogbreeds.model.package import load_package
from dogbreeds.serve.batch import json_lines
from dogbreeds.training import train
from tests.conftest import Compose


def _comparable(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name not in ("seconds", "features")}


def test_a_run_directory_holds_what_the_readme_promises(config: Compose, tmp_path: Path) -> None:
    result = train(config())
    run = tmp_path / "run"
    expected = {
        "config.yaml", "metrics.json", "history.csv", "checkpoints", "model", "model.tar.gz", "report.html",
        "cache", "tensorboard",
    }  # fmt: skip
    assert {path.name for path in run.iterdir()} == expected
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics == result.metrics
    assert metrics["images"] == {"train": 36, "valid": 18, "test": 18}
    assert metrics["features"] == {"computed": 72, "reused": 0, "precision": metrics["features"]["precision"]}
    assert set(metrics["seconds"]) == {"features", "training", "total"}
    with (run / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    with tarfile.open(run / "model.tar.gz") as archive:
        assert {"model.json", "model.safetensors", "code/dogbreeds/serve/handler.py"} <= set(archive.getnames())
    assert f"{metrics['test/accuracy']:.4f}" in result.summary()


def test_the_test_accuracy_is_the_one_of_the_packaged_handler(config: Compose, sample: Path) -> None:
    result = train(config())
    paths = find_photos(sample)["test"]
    answers = [json.loads(line) for line, _ in json_lines(str(result.directory / "model"), paths)]
    classes = result.metrics["classes"]
    right = [classes[answer["index"]] == Path(answer["path"]).parent.name for answer in answers]
    assert sum(right) / len(right) == result.metrics["test/accuracy"]


def test_the_trunk_stays_bit_identical(config: Compose) -> None:
    result = train(config("lr=0.1", "trainer.one_batch=true", "epochs=2"))
    _, network = load_package(result.directory / "model")
    backbone = load_backbone("squeezenet1_1", "random", 0)
    trunk = torch.nn.Sequential(*list(network.trunk)[1:])
    assert fingerprint(torch.nn.Sequential(*backbone.stages)) == fingerprint(trunk)


def test_checkpoints_hold_no_trunk(config: Compose, tmp_path: Path) -> None:
    train(config())
    for name in ("best", "last"):
        saved = torch.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert saved["state_dict"]
        assert not [key for key in saved["state_dict"] if key.startswith("trunk.")]


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_resuming_between_epochs_gives_the_uninterrupted_result(
    head: str, config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (f"model.head={head}", "epochs=5", "schedule=cosine", "optimizer=adamw", "weight_decay=0.01")
    whole = train(config(*settings, f"run_dir={tmp_path / 'whole'}"))

    def killed(self: BreedClassifier) -> None:
        if self.current_epoch == 2:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(BreedClassifier, "on_train_epoch_start", killed)
        with pytest.raises(RuntimeError, match="killed"):
            train(config(*settings))
    assert not (tmp_path / "run" / "metrics.json").exists()

    from omegaconf import OmegaConf

    resumed = train(load(OmegaConf.create({"resume": str(tmp_path / "run")}), [f"resume={tmp_path / 'run'}"]))
    assert _comparable(resumed.metrics) == _comparable(whole.metrics)
    assert resumed.metrics["features"]["reused"] == 72
    assert (tmp_path / "run" / RUN_CONFIG).is_file()
    columns = ("epoch", "step", "train/loss", "val/loss")
    rows = {}
    for name in ("run", "whole"):
        with (tmp_path / name / "history.csv").open() as file:
            rows[name] = [[row[column] for column in columns] for row in csv.DictReader(file)]
    assert rows["run"] == rows["whole"]


def test_the_same_seed_gives_the_same_metrics(config: Compose, tmp_path: Path) -> None:
    first = train(config(f"run_dir={tmp_path / 'a'}"))
    second = train(config(f"run_dir={tmp_path / 'b'}"))
    assert _comparable(first.metrics) == _comparable(second.metrics)


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer=debug",),
        ("model.unfreeze=fire9", "data.workers=0", "epochs=1"),
        ("data.augment=true", "data.workers=0", "epochs=1"),
        ("model.class_weights=balanced", "optimizer=sgd"),
        ("features.precision=fp32", "cache.enabled=false"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_variants_run_through(overrides: tuple[str, ...], config: Compose) -> None:
    result = train(config(*overrides))
    assert 0 <= result.metrics["test/accuracy"] <= 1
    debugging = overrides[0] == "trainer=debug"
    assert result.metrics["debug"] is debugging
    if debugging:
        assert result.metrics["epochs"] == 1
        assert set(result.metrics["images"].values()) == {12}
        assert not (result.directory / "cache").exists()


def test_unfreezing_changes_the_tail_and_only_the_tail(config: Compose) -> None:
    result = train(config("model.unfreeze=fire9", "data.workers=0", "epochs=1"))
    _, network = load_package(result.directory / "model")
    before = dict(load_backbone("squeezenet1_1", "random", 0).stages.named_children())
    after = dict(network.trunk.named_children()) | dict(network.tail.named_children())
    changed = {name for name in before if fingerprint(before[name]) != fingerprint(after[name])}
    assert changed == {"fire9"}


def test_skipped_images_are_counted(config: Compose, sample: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "photos"
    shutil.copytree(sample, folder)
    broken = next((folder / "train").rglob("*.jpg"))
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=f"1 of 72 files(.|\n)*{broken.name}(.|\n)*on_bad_image=skip"):
        train(config(f"data.dir={folder}"))
    result = train(config(f"data.dir={folder}", "data.on_bad_image=skip"))
    assert result.metrics["unreadable"] == 1
    assert result.metrics["images"]["train"] == 35


def test_photos_in_two_splits_are_reported(
    config: Compose, sample: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import shutil

    folder = tmp_path / "photos"
    shutil.copytree(sample, folder)
    photo = next((folder / "train").rglob("*.jpg"))
    shutil.copy(photo, folder / "test" / photo.parent.name / "again.jpg")
    with caplog.at_level("INFO"):
        result = train(config(f"data.dir={folder}"))
    assert result.metrics["in_several_splits"] == 1
    assert "again.jpg" in caplog.text
    assert "in more than one split" in (result.directory / "report.html").read_text()


def test_a_loss_that_is_never_finite_is_said(config: Compose) -> None:
    with pytest.raises(UserError, match="never finite"):
        train(config("optimizer=sgd", "lr=1e38"))


def test_grayscale_photos_train(config: Compose, tmp_path: Path) -> None:
    for split, breed, number in itertools.product(("train", "valid", "test"), ("a", "b"), range(3)):
        path = tmp_path / "gray" / split / breed / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shade = 40 * number + (100 if breed == "a" else 0)
        Image.new("L", (40, 30 + number), shade + len(split)).save(path)
    result = train(config(f"data.dir={tmp_path / 'gray'}"))
    assert result.metrics["images"]["train"] == 6


@pytest.mark.photos
def test_real_photos_reach_the_promised_accuracy(
    config: Compose, photos: Path, squeezenet_weights: Path, tmp_path: Path
) -> None:
    """The whole grid of the systems that we replace: nowhere a collapse, and the default well above."""
    real = (f"data.dir={photos}", f"model.weights={squeezenet_weights}", "features.batch_size=32")
    accuracies = {}
    for rate, batch, epochs in itertools.product((0.001, 0.01, 0.1), (128, 256, 512), (5, 10)):
        settings = (
            *real,
            f"lr={rate}",
            f"batch_size={batch}",
            f"epochs={epochs}",
            f"cache.dir={tmp_path / 'cache'}",
        )
        accuracies[rate, batch, epochs] = train(config(*settings)).metrics["test/accuracy"]
    assert accuracies[0.01, 256, 10] >= 0.78
    assert min(accuracies.values()) >= 0.65, accuracies
    assert statistics.mean(accuracies.values()) > 0.74, accuracies

"""The one training run, end to end on drawn dogs and on real photos."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shutil
import statistics
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import torch
from hydra import compose
from omegaconf import OmegaConf
from PIL import Image
from torchvision import models

from dogbreeds import composing
from dogbreeds.config import load
from dogbreeds.data.layout import find_photos
from dogbreeds.errors import CacheError, DataError, Interrupted, UserError
from dogbreeds.model.backbones import fingerprint, load_backbone
from dogbreeds.model.classifier import BreedClassifier
from dogbreeds.package.package import load_package
from dogbreeds.run_directory import INDEX, REPORT, RUN_CONFIG
from dogbreeds.serve import batch as predicting
from dogbreeds.serve.batch import find_images
from dogbreeds.training.features import _Log
from dogbreeds.training.features_only import prepare_features
from dogbreeds.training.run import RunResult, train
from tests.conftest import Compose
from tests.kaggle import kaggle

pytestmark = pytest.mark.slow

#: Photos of the sample.
TRAIN, HELD_OUT = 36, 36
EVERY = TRAIN + HELD_OUT


def comparable(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name not in ("seconds", "features")}


def counted(result: RunResult) -> tuple[int, int]:
    features = result.metrics["features"]
    return features["computed"], features["reused"]


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Path:
    """A copy of the sample to do damage to."""
    return Path(shutil.copytree(sample, tmp_path / "photos"))


def photos_of(folder: Path, split: str = "train") -> list[Path]:
    return sorted((folder / split).rglob("*.jpg"))


def truncate(path: Path) -> Path:
    """A photo that begins well."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def accuracy_of_answers(result: RunResult, sample: Path, tmp_path: Path) -> float:
    """The share of right answers of the packaged model on the test photos, of which as many are known as in the run."""
    paths = find_photos(sample).photos("test")
    predictor = predicting.load(result.directory / "model", tmp_path / "cache of the package")
    answers = [row for row, _ in predicting.rows(predictor, paths)]
    classes = result.metrics["classes"]
    assert sum(answer["known"] for answer in answers) / len(answers) == result.metrics["test/known"]
    right = [classes[answer["index"]] == Path(answer["path"]).parent.name for answer in answers]
    return sum(right) / len(right)


# --- one run


def test_a_run_directory_holds_what_the_readme_promises(
    config: Compose, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = train(config())
    run = tmp_path / "run"
    expected = {
        "config.yaml", "metrics.json", "history.csv", "checkpoints", "model", "model.tar.gz", "report.html",
        "tensorboard", "predictions.csv", "index.csv", "audit.csv", "rules.json", "debugger", "profiler",
    }  # fmt: skip
    assert {path.name for path in run.iterdir()} == {*expected, ".lock"}
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics == result.metrics
    assert metrics["images"] == {"train": 36, "valid": 18, "test": 18}
    assert metrics["features"].keys() == {"computed", "reused", "engine", "precision"}
    assert counted(result) == (EVERY, 0)
    assert metrics["features"]["engine"] in ("openvino", "torch")
    assert metrics["features"]["precision"] in ("fp32", "bf16")
    # Of so few validation photos all are known.
    assert metrics["val/known"] == 1.0 and 0 <= metrics["test/known"] <= 1
    assert json.loads((run / "model" / "model.json").read_text())["known"] == metrics["known"]
    assert "look like one of the 3 breeds, by a threshold" in (run / "report.html").read_text()
    assert set(metrics["seconds"]) == {"features", "training", "total"}
    with (run / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    with tarfile.open(run / "model.tar.gz") as archive:
        assert {"README.md", "model.json", "model.safetensors", "code/dogbreeds/package/predictor.py"} <= set(
            archive.getnames()
        )
    assert f"{metrics['test/accuracy']:.4f}" in result.summary()
    check_what_the_model_card_says_to_type((run / "model" / "README.md").read_text(), sample, run, monkeypatch)


def check_what_the_model_card_says_to_type(card: str, sample: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "sample: 36 training photos, 18 validation photos, 18 test photos" in card
    assert str(run.parent) not in card and str(sample.parent) not in card
    monkeypatch.chdir(run)
    shutil.copy(photos_of(sample, "test")[0], "photo.jpg")
    said: list[tuple[str, float]] = []
    exec(re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0], {"print": lambda *words: said.append(words)})
    ((breed, probability),) = said
    assert breed in card and probability > 0.3
    for line in re.findall(r"```bash\n(.*?)```", card, re.DOTALL)[0].splitlines():
        typed, name, *words = line.split()
        assert typed == "dogbreeds"
        with composing.initialized(name, words):
            compose(name, words)


@pytest.mark.ci
@pytest.mark.parametrize(("engine", "precision"), [("torch", "auto"), ("openvino", "auto"), ("openvino", "int8")])
def test_the_test_accuracy_is_the_one_of_the_packaged_handler(
    engine: str, precision: str, config: Compose, sample: Path, tmp_path: Path
) -> None:
    result = train(config(f"features.engine={engine}", f"features.precision={precision}", "epochs=10"))
    assert result.metrics["features"]["engine"] == engine
    described, network = load_package(result.directory / "model")
    assert described.engine == engine
    assert (network.int8 is not None) == (precision == "int8") == ("examples" in described.int8)
    assert accuracy_of_answers(result, sample, tmp_path) == result.metrics["test/accuracy"]
    # It has learned something.
    assert result.metrics["test/accuracy"] > 0.4


def test_the_trunk_stays_bit_identical(config: Compose, cache: Path) -> None:
    result = train(config(f"cache.dir={cache}", "lr=0.1", "trainer.one_batch=true", "epochs=2"))
    _, network = load_package(result.directory / "model")
    backbone = load_backbone("squeezenet1_1", "random", 0)
    trunk = torch.nn.Sequential(*list(network.trunk)[1:])
    assert fingerprint(torch.nn.Sequential(*backbone.stages)) == fingerprint(trunk)


def test_checkpoints_hold_no_trunk(config: Compose, cache: Path, tmp_path: Path) -> None:
    train(config(f"cache.dir={cache}"))
    for name in ("best", "last"):
        saved = torch.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert saved["state_dict"]
        assert not [key for key in saved["state_dict"] if key.startswith("trunk.")]


@pytest.mark.ci
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

    resumed = train(load(OmegaConf.create({"resume": str(tmp_path / "run")}), [f"resume={tmp_path / 'run'}"]))
    assert comparable(resumed.metrics) == comparable(whole.metrics)
    assert counted(resumed) == (0, EVERY)
    assert (tmp_path / "run" / RUN_CONFIG).is_file()
    columns = ("epoch", "step", "train/loss", "val/loss")
    rows = {}
    for name in ("run", "whole"):
        with (tmp_path / name / "history.csv").open() as file:
            rows[name] = [[row[column] for column in columns] for row in csv.DictReader(file)]
    assert rows["run"] == rows["whole"]


@pytest.mark.parametrize(
    "where",
    [
        "dogbreeds.training.run.prepare",
        f"{BreedClassifier.__module__}.BreedClassifier.on_fit_start",
        "dogbreeds.training.run.build_report",
    ],
)
def test_a_run_that_is_stopped_says_how_to_continue(
    where: str, config: Compose, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, stopped, raising=False)
    with pytest.raises(Interrupted, match=re.escape(f"Continue with: python train.py resume={tmp_path / 'run'}")):
        train(config(f"cache.dir={cache}"))


def test_a_run_that_had_stopped_early_stays_stopped(config: Compose, cache: Path, tmp_path: Path) -> None:
    whole = train(config(f"cache.dir={cache}", "patience=1", "lr=0.3", "epochs=30"))
    assert whole.metrics["epochs"] < 30
    (tmp_path / "run" / "metrics.json").unlink()
    resumed = train(load(OmegaConf.create({"resume": str(tmp_path / "run")}), [f"resume={tmp_path / 'run'}"]))
    assert comparable(resumed.metrics) == comparable(whole.metrics)


@pytest.mark.ci
def test_the_same_seed_gives_the_same_metrics(config: Compose, tmp_path: Path) -> None:
    """Whether features are computed or found."""
    results = [train(config(f"run_dir={tmp_path / name}", f"cache.dir={tmp_path / cache}")) for name, cache in RUNS]
    assert [counted(result)[0] for result in results] == [EVERY, EVERY, 0]
    assert comparable(results[0].metrics) == comparable(results[1].metrics) == comparable(results[2].metrics)


RUNS = (("a", "one"), ("b", "another"), ("c", "one"))


@pytest.mark.ci
@pytest.mark.parametrize(
    "overrides",
    [
        ("model.class_weights=balanced", "optimizer=sgd"),
        ("features.precision=fp32", "features.batch_size=5", "data.workers=1"),
        ("model.head=mlp", "data.views=3", "schedule=cosine"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_variants_run_through(overrides: tuple[str, ...], config: Compose) -> None:
    result = train(config(*overrides))
    assert 0 <= result.metrics["test/accuracy"] <= 1
    assert not result.metrics["debug"]


# --- features are computed once


@pytest.mark.ci
def test_a_second_run_computes_nothing_whatever_the_head_learns_with(config: Compose, tmp_path: Path) -> None:
    assert counted(train(config())) == (EVERY, 0)
    for number, overrides in enumerate(
        [
            (),
            ("lr=0.03", "batch_size=7", "epochs=1", "optimizer=adamw"),
            ("model.head=mlp", "model.class_weights=balanced", "epochs=1"),
            ("features.batch_size=5", "data.workers=0", "epochs=1"),
        ]
    ):
        assert counted(train(config(*overrides, f"run_dir={tmp_path / str(number)}"))) == (0, EVERY), overrides


@pytest.mark.ci
def test_another_seed_reuses_features_of_weights_that_it_does_not_draw(config: Compose, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(models.squeezenet1_1(weights=None).state_dict(), weights)
    given = (f"model.weights={weights}", "trainer.one_batch=true", "epochs=1")
    assert counted(train(config(*given))) == (36, 0)
    # The split of a sample does not depend on the seed either.
    assert counted(train(config(*given, "seed=1"))) == (0, 36)
    # Random weights are others with another seed.
    assert counted(train(config(*given[1:]))) == (36, 0)
    assert counted(train(config(*given[1:], "seed=1"))) == (36, 0)


@pytest.mark.ci
def test_a_new_photo_and_a_changed_one_are_computed_alone(config: Compose, folder: Path) -> None:
    here = f"data.dir={folder}"
    train(config(here, "epochs=1"))
    first, *others = photos_of(folder)
    Image.open(others[0]).rotate(90).save(first.with_name("new.jpg"))
    Image.open(others[1]).rotate(90).save(others[1])
    assert counted(train(config(here, "epochs=1"))) == (2, EVERY - 1)
    shutil.move(first, first.with_name("renamed.jpg"))
    assert counted(train(config(here, "epochs=1"))) == (0, EVERY + 1)


@pytest.mark.parametrize(
    ("overrides", "computed"),
    [((), EVERY), (("data.views=1", "model.unfreeze=fire9"), 2 * EVERY)],
    ids=["vectors", "views of a tail"],
)
def test_prepared_features_leave_nothing_to_compute(
    overrides: tuple[str, ...], computed: int, config: Compose, tmp_path: Path
) -> None:
    prepared = prepare_features(config(*overrides))
    assert (prepared["computed"], prepared["reused"]) == (computed, 0)
    assert not (tmp_path / "run").exists()
    again = prepare_features(config(*overrides))
    assert (again["computed"], again["reused"]) == (0, computed)
    result = train(config(*overrides, "epochs=1"))
    assert counted(result) == (0, computed)
    assert {**prepared, "computed": 0, "reused": computed} == result.metrics["features"]


def test_mirror_resolution_and_crop_have_features_of_their_own(config: Compose) -> None:
    shapes = ([], ["features.mirror=true"], ["model.resolution=96"], ["model.resolution=96", "model.crop=0.5"])
    counts = [prepare_features(config(*shape, "features.engine=torch"))["computed"] for shape in shapes]
    assert counts == [counts[0]] * len(shapes) and counts[0] != 0
    assert prepare_features(config(*shapes[1], "features.engine=torch"))["computed"] == 0


def test_features_that_find_no_room_stop_the_run(config: Compose, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"Raise cache\.max_gb"):
        train(config("cache.max_gb=1e-6"))
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_progress_says_the_rate_and_the_end(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([100.0, 100.5, 106.0, 107.0, 110.0])
    monkeypatch.setattr("time.monotonic", lambda: next(moments))
    with caplog.at_level("INFO"):
        said = _Log()
        for done in (1, 30, 40, 50):
            said(done, 50)
    assert caplog.messages == ["features 30/50, 5 photos/s, 4 s left", "features 50/50, 5 photos/s"]


# --- views


def test_training_with_views(config: Compose, sample: Path, tmp_path: Path) -> None:
    plain = train(config(f"run_dir={tmp_path / 'plain'}"))
    result = train(config("data.views=2", "epochs=4"))
    assert counted(result) == (2 * TRAIN, EVERY)
    assert result.metrics["epochs"] == 4
    # The exact reference stays that of the photos themselves.
    references = [f"reference/{name}" for name in ("test_accuracy", "val_accuracy", "val_loss", "strength")]
    assert {name: plain.metrics[name] for name in references} == {name: result.metrics[name] for name in references}
    assert accuracy_of_answers(result, sample, tmp_path) == result.metrics["test/accuracy"]
    more = train(config("data.views=3", "epochs=1", f"run_dir={tmp_path / 'more'}"))
    assert counted(more) == (TRAIN, EVERY + 2 * TRAIN)


def test_each_epoch_learns_from_the_next_view(config: Compose, cache: Path, tmp_path: Path) -> None:
    losses = {}
    for views in (0, 1, 2):
        train(config(f"cache.dir={cache}", f"data.views={views}", "epochs=2", f"run_dir={tmp_path / str(views)}"))
        with (tmp_path / str(views) / "history.csv").open() as file:
            losses[views] = [row["train/loss"] for row in csv.DictReader(file)]
    assert losses[0][0] != losses[1][0] == losses[2][0]
    assert losses[1][1] != losses[2][1]


# --- a tail


def test_unfreezing_trains_the_tail_from_stored_activations(config: Compose, sample: Path, tmp_path: Path) -> None:
    settings = ("model.unfreeze=fire9", "epochs=2", "lr=0.01", "model.unfreeze_lr_scale=0.1")
    result = train(config(*settings))
    assert counted(result) == (2 * EVERY, 0)
    _, network = load_package(result.directory / "model")
    before = dict(load_backbone("squeezenet1_1", "random", 0).stages.named_children())
    after = dict(network.trunk.named_children()) | dict(network.tail.named_children())
    changed = {name for name in before if fingerprint(before[name]) != fingerprint(after[name])}
    assert changed == {"fire9"}
    assert accuracy_of_answers(result, sample, tmp_path) == result.metrics["test/accuracy"]
    again = train(config(*settings, f"run_dir={tmp_path / 'again'}"))
    assert counted(again) == (0, 2 * EVERY)
    assert comparable(again.metrics) == comparable(result.metrics)


def test_the_trained_tail_answers_the_same_with_openvino(config: Compose, sample: Path, tmp_path: Path) -> None:
    result = train(config("model.unfreeze=fire9", "epochs=1", "features.engine=openvino", "data.views=1"))
    assert result.metrics["features"]["engine"] == "openvino"
    assert accuracy_of_answers(result, sample, tmp_path) == result.metrics["test/accuracy"]


# --- debugging


def test_a_debugging_run_leaves_the_features_of_the_user_alone(config: Compose, tmp_path: Path) -> None:
    assert Path(platformdirs.user_cache_dir("dogbreeds")) == Path(config("cache.dir=${user_cache:}").cache.dir)
    user = Path(platformdirs.user_cache_dir("dogbreeds"))
    before = sorted(user.rglob("*"))
    result = train(config("trainer=debug"))
    assert result.metrics["debug"] is True
    assert "debugging run" in result.summary()
    assert result.metrics["epochs"] == 1
    assert set(result.metrics["images"].values()) == {12}
    assert result.metrics["features"]["engine"] == "torch"
    assert counted(result) == (36, 0)
    assert sorted(user.rglob("*")) == before
    assert not (tmp_path / "cache").exists()
    assert (tmp_path / "run" / "cache").is_dir()


# --- photos that cannot be read


def test_a_photo_that_cannot_be_read_is_named_everywhere(
    config: Compose, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = truncate(photos_of(folder)[0])
    name = broken.relative_to(folder).as_posix()
    settings = (f"data.dir={folder}", "epochs=1")
    stopped = config(*settings, "data.on_bad_image=stop")
    with pytest.raises(DataError, match=f"1 of 72 photos(.|\\n)*{name}(.|\\n)*on_bad_image=skip"):
        train(stopped)
    assert f"{name},unreadable,,,image file is truncated" in (Path(stopped.run_dir) / INDEX).read_text()
    assert not list(Path(stopped.cache.dir).rglob("*.features"))
    with caplog.at_level("INFO"):
        result = train(config(*settings))
    assert result.metrics["unreadable"] == 1
    assert result.metrics["images"] == {"train": TRAIN - 1, "valid": 18, "test": 18}
    assert counted(result) == (EVERY - 1, 0)
    assert name in caplog.text
    assert "photos left out, since they cannot be read: 1 (see index.csv)" in result.summary()
    for file in (INDEX, REPORT):
        assert name in (result.directory / file).read_text()


def test_photos_are_used_whatever_they_are_called(
    config: Compose, cache: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_, last = sorted(path.name for path in (folder / "train").iterdir())
    odd = os.fsdecode(b"H\xfcndin")
    for split in ("train", "valid", "test"):
        (folder / split / first).rename(folder / split / odd)
        (folder / split / last).rename(folder / split / "Basset_hound")
    photos = sorted((folder / "train" / odd).iterdir())
    for photo, name in zip(photos, ("a.jfif", "no ending", "b=c,[d]'.JPE", "more/e.jpg", f"{odd}.jpg"), strict=False):
        (photo.parent / name).parent.mkdir(exist_ok=True)
        photo.rename(photo.parent / name)
    (folder / "train" / odd / "notes.txt").write_text("not a photo")
    (folder / "valid").rename(folder / "Validation")
    shutil.copy(next((folder / "test" / odd).iterdir()), folder / "train" / odd / "twin.jpg")
    result = train(config(f"cache.dir={cache}", f"data.dir={folder}", "epochs=1"))
    assert result.metrics["images"] == {"train": TRAIN + 1, "valid": 18, "test": 18}
    assert "H\\xfcndin" in result.metrics["classes"]
    index = (result.directory / INDEX).read_text(encoding="utf-8")
    assert "train/H\\xfcndin/more/e.jpg,used,train,H\\xfcndin," in index
    assert "train/H\\xfcndin/notes.txt,left out,,,not a photo" in index
    found = find_images(str(folder / "train"))
    assert sorted(found) == sorted(find_photos(folder).photos("train"))
    assert "1 not a photo" in capsys.readouterr().err
    predictor = predicting.load(result.directory / "model", tmp_path / "cache of the package")
    answers = [row for row, _ in predicting.rows(predictor, found)]
    assert len(answers) == TRAIN + 1 and not any("error" in answer for answer in answers)


@pytest.mark.ci
def test_a_truncated_photo_is_skipped_under_every_view_and_cut(config: Compose, folder: Path) -> None:
    truncate(photos_of(folder)[0])
    truncate(photos_of(folder, "valid")[0])
    settings = (f"data.dir={folder}", "epochs=1", "data.on_bad_image=skip", "data.views=2", "model.unfreeze=fire9")
    result = train(config(*settings))
    assert result.metrics["images"] == {"train": TRAIN - 1, "valid": 17, "test": 18}
    assert counted(result) == (EVERY - 2 + 2 * (TRAIN - 1) + HELD_OUT - 1, 0)


def test_a_photo_that_is_gone_when_it_is_needed(config: Compose, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def removing(*arguments: Any, **settings: Any) -> Any:
        photos_of(folder)[0].unlink()
        return load_backbone(*arguments, **settings)

    monkeypatch.setattr("dogbreeds.training.datamodule.load_backbone", removing)
    with pytest.raises(DataError, match="can no longer be read"):
        train(config(f"data.dir={folder}"))


def test_photos_in_two_splits_are_reported(
    config: Compose, cache: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photo = next((folder / "train").rglob("*.jpg"))
    shutil.copy(photo, folder / "test" / photo.parent.name / "again.jpg")
    with caplog.at_level("INFO"):
        result = train(config(f"cache.dir={cache}", f"data.dir={folder}"))
    assert result.metrics["in_several_splits"] == 1
    assert "again.jpg" in caplog.text
    assert "in more than one split" in (result.directory / "report.html").read_text()


def test_a_loss_that_is_never_finite_is_said(config: Compose, cache: Path) -> None:
    with pytest.raises(UserError, match="never finite"):
        train(config(f"cache.dir={cache}", "optimizer=sgd", "lr=1e30"))


def test_grayscale_photos_train(config: Compose, tmp_path: Path) -> None:
    for split, breed, number in itertools.product(("train", "valid", "test"), ("a", "b"), range(3)):
        path = tmp_path / "gray" / split / breed / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shade = 40 * number + (100 if breed == "a" else 0)
        Image.new("L", (40, 30 + number), shade + len(split)).save(path)
    result = train(config(f"data.dir={tmp_path / 'gray'}"))
    assert result.metrics["images"]["train"] == 6


def of_both_layouts(config: Compose, photos: Path, root: Path, *settings: str) -> Iterator[RunResult]:
    labels = kaggle(photos, root, splits=True)
    yield train(config(f"data.dir={photos}", *settings))
    yield train(config(f"data.dir={root}", f"data.labels={labels}", *settings))


def test_a_table_of_labels_trains_as_the_folders_do(config: Compose, sample: Path, tmp_path: Path) -> None:
    folders, table = of_both_layouts(config, sample, tmp_path / "kaggle")
    assert table.metrics["features"]["computed"] == 0
    assert comparable(folders.metrics) == comparable(table.metrics)
    with (table.directory / "index.csv").open(encoding="utf-8") as file:
        counted = Counter((row["state"], row["reason"]) for row in csv.DictReader(file))
    assert counted == {("used", ""): 72, ("left out", "in no row of data.labels"): 18, ("left out", "not a photo"): 1}
    assert (table.directory / "labels.csv").is_file()


@pytest.mark.ci
@pytest.mark.photos
def test_real_photos_of_a_table_train_as_the_folders_do(
    config: Compose, photos: Path, squeezenet_weights: Path, tmp_path: Path
) -> None:
    settings = (f"model.weights={squeezenet_weights}", "epochs=5")
    folders, table = of_both_layouts(config, photos, tmp_path / "kaggle", *settings)
    assert folders.metrics["test/accuracy"] > 0.6
    assert comparable(folders.metrics) == comparable(table.metrics)


@pytest.mark.ci
@pytest.mark.photos
def test_real_photos_reach_the_exact_solution(config: Compose, photos: Path, squeezenet_weights: Path) -> None:
    """The default recipe, over the grid of the systems that we replace, and with their few epochs: no collapse."""
    real = (f"data.dir={photos}", f"model.weights={squeezenet_weights}")
    default = train(config(*real, "epochs=80", "batch_size=256")).metrics
    assert default["val/loss"] <= 1.03 * default["reference/val_loss"]
    exact = default["reference/test_accuracy"]
    reached = {}
    for rate, batch, epochs in itertools.product((0.001, 0.01, 0.1), (128, 512), (5, 80)):
        result = train(config(*real, f"lr={rate}", f"batch_size={batch}", f"epochs={epochs}"))
        assert counted(result)[0] == 0
        reached[rate, batch, epochs] = result.metrics["test/accuracy"]
    long = [accuracy for (_, _, epochs), accuracy in reached.items() if epochs == 80]
    assert min(long) >= exact - 0.035 and statistics.mean(long) >= exact - 0.015, reached
    assert min(reached.values()) >= 0.62, reached


@pytest.mark.ci
@pytest.mark.photos
def test_a_head_that_falls_short_is_said_with_the_command_of_a_better_one(
    config: Compose, photos: Path, squeezenet_weights: Path, tmp_path: Path
) -> None:
    real = (f"data.dir={photos}", f"model.weights={squeezenet_weights}")
    result = train(config(*real, "epochs=2", "lr=0.001", "batch_size=512"))
    metrics = result.metrics
    assert result.exact.endswith(f"optimizer=exact weight_decay={metrics['reference/strength']:g}")
    assert f": {result.exact}\n" in result.summary()
    assert result.exact in (result.directory / "report.html").read_text()
    with (result.directory / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    only = [row for row in rows if row["reference"] == row["breed"] != row["answer"]]
    missed = [row for row in rows if row["answer"] == row["breed"] != row["reference"]]
    assert (len(only), len(missed)) == (metrics["reference/test_only"], metrics["reference/test_missed"])
    gap = metrics["test/accuracy"] - metrics["reference/test_accuracy"]
    assert gap == pytest.approx((len(missed) - len(only)) / len(rows))
    # What the command makes is the exact solution, as a full run.
    better = train(config(*real, *result.exact.split(" ")[-2:], f"run_dir={tmp_path / 'better'}"))
    assert better.metrics["val/loss"] == pytest.approx(metrics["reference/val_loss"], rel=1e-4)
    assert better.exact == "" and (better.directory / "model.tar.gz").is_file()

"""Real photos and weights: healthy runs trip no rule of the preset, and each sick one trips its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dogbreeds.model.head import Head
from dogbreeds.run_directory import METRICS, REPORT, RULES
from dogbreeds.training.datamodule import FeatureBatches
from dogbreeds.training.run import train
from tests.conftest import SHARED, Compose

pytestmark = [pytest.mark.ci, pytest.mark.photos]

Run = Callable[..., dict[str, dict[str, Any]]]
Spoil = Callable[[Head], None]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features that all runs share."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def judged(config: Compose, photos: Path, squeezenet_weights: Path, cache: Path, tmp_path: Path) -> Run:
    """Trains, and returns what each rule said."""

    def judged(*overrides: str) -> dict[str, dict[str, Any]]:
        given = {override.split("=")[0] for override in overrides}
        usual = [f"data.dir={photos}", "batch_size=256", "epochs=10"]
        kept = [override for override in usual if override.split("=")[0] not in given]
        train(config(*kept, f"model.weights={squeezenet_weights}", f"cache.dir={cache}", *overrides))
        rules = json.loads((tmp_path / "run" / RULES).read_text())["rules"]
        return {rule["name"]: rule for rule in rules}

    return judged


def fired(judgements: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, rule in judgements.items() if rule["status"] == "IssuesFound"}


def some_photos(directory: Path, of_class: Callable[[int], int]) -> Path:
    """The real photos, with so many training photos of each class."""
    source = SHARED / "data" / "woof10"
    for split in ("train", "valid", "test"):
        for number, breed in enumerate(sorted((source / split).iterdir())):
            target = directory / split / breed.name
            target.mkdir(parents=True)
            files = sorted(breed.iterdir())
            for file in files[: of_class(number)] if split == "train" else files:
                (target / file.name).symlink_to(file)
    return directory


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Spoil], None]]:
    """Heads that start otherwise than they should."""
    initialise = Head.initialise

    def apply(spoil: Spoil) -> None:
        def begun(self: Head, features: torch.Tensor) -> None:
            initialise(self, features)
            spoil(self)

        monkeypatch.setattr(Head, "initialise", begun)

    yield apply


@pytest.mark.parametrize(
    "overrides",
    [
        ("epochs=80",),
        ("epochs=80", "model.head=mlp"),
        ("epochs=80", "batch_size=128", "lr=0.001"),
        ("epochs=30", "seed=1"),
        ("optimizer=sgd", "lr=0.1"),
        ("experiment=resnet50_udacity", "model=squeezenet1_1"),
    ],
    ids=" ".join,
)
def test_a_healthy_run_trips_none(overrides: tuple[str, ...], judged: Run) -> None:
    found = judged(*overrides)
    assert fired(found) == set()
    assert [rule for rule in found.values() if rule["status"] == "NoIssuesFound"]


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_learning_rate_that_is_far_too_large(head: str, judged: Run) -> None:
    assert fired(judged("lr=10000", f"model.head={head}")) & {"LossNotDecreasing", "ExplodingTensor"}


def test_three_photos_of_a_breed_for_a_hundred_epochs(judged: Run, tmp_path: Path) -> None:
    few = some_photos(tmp_path / "few", lambda number: 3)
    bare = ("schedule=constant", "weight_decay=0", "epochs=100", "patience=100")
    assert {"Overfit", "Overtraining"} <= fired(judged(f"data.dir={few}", *bare))


def test_a_head_that_starts_at_a_constant(judged: Run, spoilt: Callable[[Spoil], None]) -> None:
    def constant(head: Head) -> None:
        for parameter in head.layers.parameters():
            nn.init.constant_(parameter, 0.5)

    spoilt(constant)
    assert "PoorWeightInitialization" in fired(judged("model.head=mlp"))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_head_that_starts_a_thousand_times_too_large(kind: str, judged: Run, spoilt: Callable[[Spoil], None]) -> None:
    def large(head: Head) -> None:
        for layer in head.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=1e3)

    spoilt(large)
    assert "PoorWeightInitialization" in fired(judged(f"model.head={kind}"))


def test_one_breed_with_twenty_times_the_photos(judged: Run, tmp_path: Path) -> None:
    uneven = some_photos(tmp_path / "uneven", lambda number: 80 if number == 0 else 4)
    found = judged(f"data.dir={uneven}")["ClassImbalance"]
    assert found["status"] == "IssuesFound"
    assert found["message"].startswith("001.Australian_terrier has 80 training photos and")
    assert "model.class_weights=balanced" in found["advice"]


def test_a_loader_that_is_slow(judged: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered = FeatureBatches.__getitem__

    def slowly(self: FeatureBatches, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        time.sleep(0.12)
        return gathered(self, positions)

    monkeypatch.setattr(FeatureBatches, "__getitem__", slowly)
    found = judged("batch_size=64")["DataWaits"]
    assert found["status"] == "IssuesFound"
    assert found["message"] and found["advice"]


def test_the_first_issue_ends_the_run(judged: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The judge looks after every step, however busy the machine is.
    monkeypatch.setattr("dogbreeds.debug.watch._STOP_SHARE", 1e9)
    found = judged("lr=10000", "epochs=50", "patience=50", "debugger.on_issue=stop")
    run = tmp_path / "run"
    metrics = json.loads((run / METRICS).read_text())
    # LossNotDecreasing looks 10 steps back, and an epoch has 4.
    assert metrics["epochs"] <= 4
    assert fired(found)
    assert (run / REPORT).is_file() and (run / "model.tar.gz").is_file()

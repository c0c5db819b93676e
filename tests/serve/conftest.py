"""A tiny package, and a server of it that several tests ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dogbreeds.package.package import save_package
from dogbreeds.package.predictor import Predictor
from tests.package.test_predictor import FOUR, described, network, photo
from tests.serve.served import Served, served

#: Small enough to be reached by a test, large enough for a busy machine.
PATIENT_LIMITS = (
    "limits.body_bytes=300_000",
    "limits.held_bytes=20_000_000",
    "limits.header_bytes=8_192",
    "limits.pixels=1_000_000",
    "limits.photos=8",
)
SMALL_LIMITS = (*PATIENT_LIMITS, "limits.receive_seconds=2.5")


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("served") / "model"
    # The photos of seeds 0 and 1 are below the threshold.
    description = replace(described(FOUR), known={"method": "largest logit", "threshold": 4.9})
    save_package(directory, description, network(description))
    (directory / "examples").mkdir()
    (directory / "examples" / "pug.png").write_bytes(photo(3))
    listed = [{"file": "pug.png", "label": "002.Pug", "breed": "Pug"}]
    (directory / "examples" / "examples.json").write_text(json.dumps(listed))
    return directory


@pytest.fixture(scope="session")
def tiny_predictor(tiny_package: Path) -> Predictor:
    return Predictor.load(tiny_package, torch.device("cpu"))


@pytest.fixture(scope="session")
def server(tiny_package: Path) -> Iterator[Served]:
    with served(tiny_package, *SMALL_LIMITS) as running:
        yield running

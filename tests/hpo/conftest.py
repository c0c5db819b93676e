"""Searches on the drawn sample, whose features are computed once for all tests here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from omegaconf import DictConfig

from dogbreeds.hpo.plan import Plan
from tests import conftest

MakePlan = Callable[..., Plan]


def composed(overrides: Sequence[str]) -> DictConfig:
    return conftest.composed("train", overrides, with_hydra=True)


def list_of(sample: Path, file: Path, photos: int) -> Path:
    """Writes the names of some training photos into a file."""
    names = sorted((sample / "train").rglob("*.jpg"))[:photos]
    file.write_text("".join(f"{name.relative_to(sample).as_posix()}\n" for name in names))
    return file


@pytest.fixture
def small(sample: Path, cache: Path) -> list[str]:
    """Overrides that make trials of milliseconds."""
    return [f"data.dir={sample}", f"cache.dir={cache}", "model.weights=random", "trainer=cpu", "epochs=3"]


@pytest.fixture
def plan(small: list[str]) -> MakePlan:
    """Makes the plan of a command line; what it does not say is small."""

    def made(*arguments: str) -> Plan:
        given = {argument.split("=")[0] for argument in arguments}
        model = [] if "model" in given else ["model=squeezenet1_1"]
        kept = [override for override in small if override.split("=")[0] not in given]
        return Plan([*kept, *model, *arguments], composed, None)

    return made

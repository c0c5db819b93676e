"""What the benchmarks are run on and with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dogbreeds.schema import TrainConfig


@dataclass(frozen=True)
class BenchSettings:
    """The settings of bench.yaml.

    Attributes:
        train: A config of a training run, for all that is not named here.
        photos: A folder of breed folders.
        count: Photos of the long passes; more than the folder has are copies that differ in their last bytes.
        rounds: How often everything is timed.
        weights: Real weights of `backbone`, or a folder with those of several; None where there are none.
        backbone: The backbone of these weights.
        seeds: Calibrations of int8 in the equivalence.
        fine_tune_epochs: Of the whole fine-tune beside the accuracy; 0 leaves it out.
        sizes: Photos of the case scale.
        strangers: A folder with folders of photos of none of the breeds.
    """

    train: TrainConfig
    photos: Path
    count: int
    rounds: int
    weights: str | None
    backbone: str
    seeds: int = 1
    fine_tune_epochs: int = 0
    sizes: Sequence[int] = ()
    strangers: str | None = None

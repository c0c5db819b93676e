"""The record of a run: scalars and statistics of tensors, step by step, in a file that survives a crash.

One line of JSON for each recorded step. A line that a crash cut off is ignored when the file is read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dogbreeds.debug.measurements import JsonLine, Measurements, Phase, Sample, StepTimes
from dogbreeds.files import read_csv, read_json, read_lines, reading, write_text
from dogbreeds.run_directory import FACTS, METRICS, PHASES, PREDICTIONS, RECORD, STEPS, SYSTEM

#: Photos (classes, classes): of the row's breed, classified as the column's.
Matrix = NDArray[np.int_]
_SCORED = (("valid", "val"), ("test", "test"))
TRAIN, EVAL = "train", "eval"
#: The parts of a tensor's name before the slash.
WEIGHT, GRADIENT, UPDATE, ACTIVATION, ACTIVITY = "weight", "gradient", "update", "activation", "activity"


@dataclass(frozen=True)
class Statistics:
    """Statistics of a tensor's finite values.

    Of more than 2,048 values all but `minimum`, `maximum`, `nan` and `infinite` are those of a sample of 2,048.

    Attributes:
        variance: Of the population.
        p5: The 5th percentile; p50 is the median.
        zeros: Share of values that are exactly zero; `nan` and `infinite` are numbers of values.
    """

    mean: float
    variance: float
    minimum: float
    p5: float
    p50: float
    p95: float
    maximum: float
    mean_absolute: float
    zeros: float
    nan: int
    infinite: int


@dataclass(frozen=True)
class Row(JsonLine):
    """What was recorded at one step.

    Attributes:
        mode: `train` or `eval`.
        step: Optimizer steps of the run so far.
        epoch: From 1.
        at: Seconds since 1970.
        scalars: `loss`, without class weights in both modes, so that they compare; `lr`; `gradient_norm`.
        tensors: By name, such as `gradient/head.layers.0.weight`.
    """

    mode: str
    step: int
    epoch: int
    at: float
    scalars: Mapping[str, float] = field(default_factory=dict)
    tensors: Mapping[str, Statistics] = field(default_factory=dict)

    @classmethod
    def parsed(cls, line: str) -> Self:
        values: dict[str, Any] = json.loads(line)
        values["tensors"] = {name: Statistics(**found) for name, found in values["tensors"].items()}
        return cls(**values)


@dataclass(frozen=True)
class Searched:
    """A number that a search varied: its range, on a linear or logarithmic scale, and the value of the best trial."""

    low: float
    high: float
    value: float
    log: bool = False


@dataclass(frozen=True)
class Facts:
    """What is known of a run before it is trained.

    Attributes:
        class_counts: Training photos of each class, in the order of the classes.
        images: Photos of each split.
        in_several_splits: Photos that appear in more than one split.
        pretrained: Its weights are not random.
        weights: What the weights of the backbone are called.
        licence: Theirs.
        debug: The run saw one batch of the photos.
        steps: Optimizer steps of all epochs.
        searched: The numbers that a search varied, where this is its best trial.
        reference: What metrics.json says of the exact linear reference.
        excluded: Photos that `data.exclude` left out.
        audit: Numbers about the photos that the rules judge; empty where they were not audited.
    """

    class_counts: Mapping[str, int] = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)
    in_several_splits: int = 0
    unreadable: int = 0
    backbone: str = ""
    pretrained: bool = True
    weights: str = ""
    licence: str = ""
    debug: bool = False
    epochs: int = 0
    steps: int = 0
    searched: Mapping[str, Searched] = field(default_factory=dict)
    reference: Mapping[str, float] = field(default_factory=dict)
    excluded: int = 0
    audit: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)

    def save(self, run_dir: Path) -> None:
        path = run_dir / FACTS
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(vars(self), default=vars, indent=1) + "\n")

    @classmethod
    def read(cls, run_dir: Path) -> Self:
        """Reads what `save` wrote; of a run that ended before that nothing is known."""
        with reading(run_dir / FACTS):
            values = read_json(run_dir / FACTS)
            searched = {name: Searched(**found) for name, found in values.pop("searched", {}).items()}
            return cls(**values, searched=searched)


@dataclass
class Record:
    """All that rules and the report know of a run: its rows as they were written, and metrics.json or nothing.

    `confusion` is what `read_confusion` returns, `now` the seconds since 1970, while the run lasts.
    """

    rows: list[Row] = field(default_factory=list)
    facts: Facts = field(default_factory=Facts)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    confusion: Mapping[str, Matrix] = field(default_factory=dict)
    measurements: Measurements = field(default_factory=Measurements)
    now: float | None = None

    @property
    def last_step(self) -> int:
        return self.rows[-1].step if self.rows else 0

    def of(self, mode: str) -> list[Row]:
        return [row for row in self.rows if row.mode == mode]

    def scalar(self, name: str, mode: str = TRAIN) -> list[tuple[int, float]]:
        return [(row.step, row.scalars[name]) for row in self.of(mode) if name in row.scalars]

    def means(self, name: str, mode: str) -> list[tuple[int, float]]:
        """Returns steps and means of a scalar: a validation has as many rows of a step as batches."""
        values: dict[int, list[float]] = {}
        for step, value in self.scalar(name, mode):
            values.setdefault(step, []).append(value)
        return [(step, sum(found) / len(found)) for step, found in sorted(values.items())]

    def tensors(self, kind: str, mode: str = TRAIN) -> dict[str, list[tuple[int, Statistics]]]:
        """Returns steps and statistics of all tensors of a kind, by their names without it."""
        found: dict[str, list[tuple[int, Statistics]]] = {}
        for row in self.of(mode):
            for name, statistics in row.tensors.items():
                if name.startswith(f"{kind}/"):
                    found.setdefault(name.partition("/")[2], []).append((row.step, statistics))
        return found


def read_rows(run_dir: Path) -> list[Row]:
    """Returns the recorded steps; of those that a resumed run repeated, the later ones."""
    rows: list[Row] = []
    for row in read_lines(run_dir / RECORD, Row.parsed):
        while rows and (rows[-1].step > row.step or (rows[-1].step == row.step and rows[-1].mode == row.mode == TRAIN)):
            rows.pop()
        rows.append(row)
    return rows


def read_record(run_dir: Path) -> Record:
    """Returns all that a run directory holds for rules and report, finished or not."""
    metrics = read_json(run_dir / METRICS)
    measured = Measurements(
        read_lines(run_dir / SYSTEM, Sample.parsed),
        read_lines(run_dir / STEPS, StepTimes.parsed),
        read_lines(run_dir / PHASES, Phase.parsed),
    )
    return Record(read_rows(run_dir), Facts.read(run_dir), metrics, read_confusion(run_dir, metrics), measured)


def read_confusion(run_dir: Path, metrics: Mapping[str, Any]) -> dict[str, Matrix]:
    """Counts the answers to the photos of the scored splits in predictions.csv; older runs did so in `metrics`."""
    if "test/confusion" in metrics:
        return {split: np.array(metrics[f"{name}/confusion"]) for split, name in _SCORED}
    places = {name: place for place, name in enumerate(metrics.get("classes", ()))}
    found = {split: np.zeros((len(places), len(places)), int) for split, _ in _SCORED}

    def count(row: Mapping[str, str]) -> None:
        found[row["split"]][places[row["breed"]], places[row["answer"]]] += 1

    return found if places and read_csv(run_dir / PREDICTIONS, count) else {}


def read_history(path: Path) -> list[dict[str, float]]:
    return read_csv(path, lambda row: {name: float(value) for name, value in row.items()})

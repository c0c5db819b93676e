"""The record of a run: scalars and statistics of tensors, step by step, in a file that survives a crash.

One JSON line per recorded step. A line that was torn by a crash is left out when the file is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dogbreeds.lines import drop_torn_line

RECORD = "record.jsonl"
TRAIN, EVAL = "train", "eval"
#: The parts of a tensor's name before the slash.
WEIGHT, GRADIENT, UPDATE, ACTIVATION = "weight", "gradient", "update", "activation"
_QUANTILES = (0.05, 0.5, 0.95)
_SAMPLE = 4096


@dataclass(frozen=True)
class Statistics:
    """What is kept of a tensor.

    Attributes:
        mean: Of the finite values, as all below.
        variance: Population variance.
        minimum: The smallest.
        p5: The 5th percentile.
        p50: The median.
        p95: The 95th percentile.
        maximum: The largest.
        mean_absolute: Mean of the absolute values.
        zeros: Share of values that are exactly zero.
        nan: Number of NaN.
        infinite: Number of infinities.
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

    @classmethod
    @torch.no_grad()
    def of(cls, tensor: Tensor) -> Statistics:
        """Measures a tensor of any shape; of a large one its extremes, and the rest on a sample."""
        values = tensor.detach().flatten()
        extremes = torch.aminmax(values)
        minimum, maximum = float(extremes.min), float(extremes.max)
        nan = infinite = 0
        if not (math.isfinite(minimum) and math.isfinite(maximum)):
            nan, infinite = int(values.isnan().sum()), int(values.isinf().sum())
            values = values[values.isfinite()] if nan + infinite < len(values) else values.new_full((1,), math.nan)
            minimum, maximum = float(values.min()), float(values.max())
        ordered = sample(values).float().sort().values
        variance, mean = torch.var_mean(ordered, correction=0)
        last = len(ordered) - 1
        p5, p50, p95 = ordered[[round(share * last) for share in _QUANTILES]].tolist()
        return cls(
            mean=float(mean),
            variance=float(variance),
            minimum=minimum,
            p5=p5,
            p50=p50,
            p95=p95,
            maximum=maximum,
            mean_absolute=float(ordered.abs().mean()),
            zeros=float((ordered == 0).float().mean()),
            nan=nan,
            infinite=infinite,
        )


def sample(tensor: Tensor) -> Tensor:
    """Returns evenly spaced values of a tensor, all of a small one: a few thousand say as much as a million."""
    values = tensor.flatten()
    return values[:: -(-len(values) // _SAMPLE)]


@dataclass(frozen=True)
class Row:
    """What was recorded at one step.

    Attributes:
        mode: `train` or `eval`.
        step: Optimizer steps of the run so far.
        epoch: From 1.
        at: Seconds since the run began.
        scalars: By name: `loss`, `lr`, `gradient_norm`.
        tensors: By name, such as `gradient/head.layers.0.weight`.
    """

    mode: str
    step: int
    epoch: int
    at: float
    scalars: Mapping[str, float] = field(default_factory=dict)
    tensors: Mapping[str, Statistics] = field(default_factory=dict)

    def line(self) -> str:
        """Returns the row as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def parsed(cls, line: str) -> Row:
        """Reads what `line` wrote."""
        values: dict[str, Any] = json.loads(line)
        values["tensors"] = {name: Statistics(**found) for name, found in values["tensors"].items()}
        return cls(**values)


@dataclass(frozen=True)
class Facts:
    """What rules know of a run beside its steps.

    Attributes:
        class_counts: Training photos of each class.
        confusion: Answers to the validation photos, a row for each class; empty as long as there are none.
        metrics: The scalars of metrics.json, as far as they are known.
    """

    class_counts: Mapping[str, int] = field(default_factory=dict)
    confusion: Sequence[Sequence[int]] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)


class Record:
    """The rows of a run, in the order they were written."""

    def __init__(self, rows: Iterable[Row] = (), facts: Facts | None = None, now: float | None = None) -> None:
        """Takes rows and what else is known.

        Args:
            rows: What was recorded.
            facts: What is known beside it.
            now: Seconds since the run began, while it lasts.
        """
        self.rows = list(rows)
        self.facts = facts or Facts()
        self.now = now

    @property
    def last_step(self) -> int:
        """The last recorded step; 0 before the first."""
        return self.rows[-1].step if self.rows else 0

    @classmethod
    def read(cls, path: Path) -> Record:
        """Reads a file, up to a line that a crash tore."""
        return cls(_whole_rows(path))

    def of(self, mode: str) -> list[Row]:
        """Returns the rows of a mode."""
        return [row for row in self.rows if row.mode == mode]

    def scalar(self, name: str, mode: str = TRAIN) -> list[tuple[int, float]]:
        """Returns steps and values of a scalar."""
        return [(row.step, row.scalars[name]) for row in self.of(mode) if name in row.scalars]

    def tensors(self, kind: str, mode: str = TRAIN) -> dict[str, list[tuple[int, Statistics]]]:
        """Returns steps and statistics of all tensors of a kind, by their names without it."""
        found: dict[str, list[tuple[int, Statistics]]] = {}
        for row in self.of(mode):
            for name, statistics in row.tensors.items():
                if name.startswith(f"{kind}/"):
                    found.setdefault(name.partition("/")[2], []).append((row.step, statistics))
        return found


def _whole_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield Row.parsed(line)


class Writer:
    """Appends rows to a file, several at a time."""

    def __init__(self, path: Path, every: int) -> None:
        """Opens a file, at its end.

        Args:
            path: Where to.
            every: Rows between two flushes, which a crash can cost at most.
        """
        drop_torn_line(path)
        self._file = path.open("a", encoding="utf-8")
        self._every, self._since = every, 0

    def add(self, row: Row) -> None:
        """Appends a row."""
        self._file.write(row.line() + "\n")
        self._since += 1
        if self._since >= self._every:
            self.flush()

    def flush(self) -> None:
        """Hands what was written to the operating system."""
        self._file.flush()
        self._since = 0

    def close(self) -> None:
        """Writes the rest."""
        self._file.close()

"""All that a run directory holds for a page, whether the run finished or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dogbreeds.config import read_yaml
from dogbreeds.data.names import shown_names
from dogbreeds.debug.record import Record, read_history, read_record
from dogbreeds.debug.rules.verdict import ISSUES
from dogbreeds.errors import UserError
from dogbreeds.files import read_csv, read_json
from dogbreeds.run_directory import AUDIT, HISTORY, INDEX, OPERATORS, PREDICTIONS, RULES, RUN_CONFIG

_PROBABILITIES = ("probability", "breed_probability", "second_probability")


@dataclass(frozen=True)
class Prediction:
    """A row of predictions.csv: classes are folders, probabilities are calibrated.

    The path is relative to `data.dir`, the breed is the label, the answer the most probable class, `second` the next,
    `reference` the answer of the exact linear solution, empty in older runs.
    """

    split: str
    path: str
    breed: str
    answer: str
    probability: float
    breed_probability: float
    second: str
    second_probability: float
    reference: str = ""

    @property
    def correct(self) -> bool:
        return self.answer == self.breed


@dataclass(frozen=True)
class Suspicion:
    """A row of audit.csv: the path is relative to `data.dir`, `suggested` a class folder, or the photo's copy."""

    path: str
    label: str
    split: str
    suspicion: str
    suggested: str
    score: float


@dataclass(frozen=True)
class Run:
    """A run directory, read: the contents of its files, empty where one is missing.

    `unused` are the rows of index.csv whose files are left out; `suspicions` are None where photos were not audited.
    """

    directory: Path
    config: Mapping[str, Any]
    config_text: str
    metrics: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]
    record: Record
    rules: Sequence[Mapping[str, Any]]
    predictions: Sequence[Prediction]
    suspicions: Sequence[Suspicion] | None
    unused: Sequence[Mapping[str, str]]
    operators: Mapping[str, Any]

    @cached_property
    def classes(self) -> list[str]:
        return list(self.metrics.get("classes") or self.record.facts.class_counts)

    @cached_property
    def names(self) -> dict[str, str]:
        """The display name of each class folder; no two folders share one."""
        return dict(zip(self.classes, shown_names(self.classes), strict=True))

    def name(self, folder: str) -> str:
        return self.names.get(folder, folder)

    def shown(self, text: str) -> str:
        """Returns a rule's message with display names instead of class folders."""
        # Longest first: a name may be a part of another one.
        for folder in sorted(self.classes, key=len, reverse=True):
            text = text.replace(folder, self.name(folder))
        return text

    @cached_property
    def fired(self) -> list[Mapping[str, Any]]:
        return [rule for rule in self.rules if rule["status"] == ISSUES]

    @property
    def images(self) -> Mapping[str, int]:
        return self.metrics.get("images") or self.record.facts.images

    @cached_property
    def last_at(self) -> float:
        """When the run last wrote anything, in seconds since 1970."""
        measured = self.record.measurements
        times = [row.at for row in self.record.rows[-1:]]
        times += [sample.at for sample in measured.samples[-1:]] + [phase.ended for phase in measured.phases[-1:]]
        files = (self.directory / name for name in (RUN_CONFIG, HISTORY))
        return max([*times, *(file.stat().st_mtime for file in files if file.is_file())])


def read_run(directory: Path) -> Run:
    """Reads a run directory, in which every file but config.yaml may be missing."""
    path = directory / RUN_CONFIG
    if not path.is_file():
        advice = "Give a run directory of train.py, such as outputs/<date>/<time>."
        raise UserError(f"{directory} has no {RUN_CONFIG}. {advice}")
    record = read_record(directory)
    suspicions = read_csv(directory / AUDIT, lambda row: Suspicion(**row | {"score": float(row["score"])}))
    unused = [row for state, row in read_csv(directory / INDEX, lambda row: (row["state"], row)) if state != "used"]
    return Run(
        directory=directory,
        config=read_yaml(path),
        config_text=path.read_text(encoding="utf-8"),
        metrics=record.metrics,
        history=read_history(directory / HISTORY),
        record=record,
        rules=read_json(directory / RULES).get("rules", []),
        predictions=read_predictions(directory / PREDICTIONS),
        suspicions=suspicions if (directory / AUDIT).is_file() else None,
        # Those first that cannot be read.
        unused=sorted(unused, key=lambda row: str(row["state"]), reverse=True),
        operators=read_json(directory / OPERATORS),
    )


def right_by_photo(predictions: Sequence[Prediction], split: str) -> dict[str, bool]:
    """Returns whether each photo of a split, by its path, was classified correctly."""
    return {one.path: one.correct for one in predictions if one.split == split}


def read_predictions(path: Path) -> list[Prediction]:
    """Returns the rows of predictions.csv; none where there is no such file."""
    return read_csv(path, lambda row: Prediction(**row | {name: float(row[name]) for name in _PROBABILITIES}))

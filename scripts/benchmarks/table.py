"""Results as tables in Markdown and as JSON, with the machine that they were measured on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dogbreeds.files import write_text
from dogbreeds.machine import machine, versions

_SHOWN_VERSIONS = ("Python", "torch", "torchvision")


@dataclass(frozen=True)
class Section:
    """The result of one case.

    Attributes:
        title: Name of the case.
        text: What was measured, and how.
        columns: Heads of the table.
        rows: Its rows.
        numbers: The same for programs.
    """

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: dict[str, float]

    def markdown(self) -> str:
        """Returns the section as Markdown."""
        lines = [f"## {self.title}", "", self.text, "", _row(self.columns), _row(["---"] * len(self.columns))]
        return "\n".join([*lines, *(_row(row) for row in self.rows), ""])


def write(sections: Sequence[Section], path: Path, noise: float) -> None:
    """Writes a Markdown page, and beside it the same numbers as JSON; cases that did not run keep their results.

    `noise` is what `timing.noise` found right before them.
    """
    numbers_path = path.with_suffix(".json")
    kept = json.loads(numbers_path.read_text()) if numbers_path.is_file() else {}
    described = {**machine(), **{name: versions()[name] for name in _SHOWN_VERSIONS}, "noise": f"{noise:.2f}"}
    for section in sections:
        kept[section.title] = {
            "numbers": {name: round(value, 4) for name, value in section.numbers.items()},
            "markdown": section.markdown(),
            "machine": described,
        }
    _replace(numbers_path, json.dumps(kept, indent=1, sort_keys=True) + "\n")
    head = (
        "Made by `make bench`. Noise: of two runs of the same thing right before a case, the longer over the shorter."
    )
    lines = [f"# {path.stem.capitalize()}", "", head, ""]
    for case in kept.values():
        lines += [case["markdown"], "Machine: " + ", ".join(f"{k} {v}" for k, v in case["machine"].items()) + ".", ""]
    _replace(path, "\n".join(lines))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _replace(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, content)

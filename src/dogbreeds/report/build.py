"""One self-contained page about a run, made from its run directory alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dogbreeds.history import read_history
from dogbreeds.report import plots
from dogbreeds.report.page import write_page
from dogbreeds.run_directory import HISTORY, REPORT
from dogbreeds.serve.handler import display_name

_WORST_CONFUSIONS = 8


def build_report(run_dir: Path, *, live: bool = False) -> Path:
    """Writes report.html into a run directory that has metrics.json, history.csv and config.yaml.

    Returns:
        The path of the page, which loads nothing from elsewhere.
    """
    if live or not (run_dir / "metrics.json").is_file():
        return run_dir / REPORT
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    history = read_history(run_dir / HISTORY)
    names = [display_name(name) for name in metrics["classes"]]
    return write_page(
        run_dir / REPORT,
        "run.html",
        {
            "metrics": metrics,
            "config": (run_dir / "config.yaml").read_text(encoding="utf-8"),
            "curves": Markup(plots.learning_curves(history, metrics["reference/val_accuracy"])),
            "confusion": Markup(plots.confusion(metrics["test/confusion"], names)),
            "breeds": _breeds(metrics, names),
            "mistakes": _mistakes(metrics["test/confusion"], names),
        },
    )


def _breeds(metrics: dict[str, Any], names: list[str]) -> list[tuple[str, float, int]]:
    """Names with accuracy and number of test photos, the hardest breed first."""
    photos = [sum(row) for row in metrics["test/confusion"]]
    return sorted(zip(names, metrics["test/per_class_accuracy"], photos, strict=True), key=lambda row: row[1])


def _mistakes(confusion: list[list[int]], names: list[str]) -> list[tuple[int, str, str]]:
    """The most frequent confusions: count, breed, answer."""
    found = [
        (count, names[row], names[column])
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(found, key=lambda mistake: -mistake[0])[:_WORST_CONFUSIONS]

"""One self-contained page about a run, made from its run directory alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from dogbreeds.report import plots
from dogbreeds.serve.handler import display_name

_WORST_CONFUSIONS = 8


def build_report(run_dir: Path) -> Path:
    """Writes report.html into a run directory that has metrics.json, history.csv and config.yaml.

    Returns:
        The path of the page, which loads nothing from elsewhere.
    """
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    with (run_dir / "history.csv").open(newline="", encoding="utf-8") as file:
        history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    names = [display_name(name) for name in metrics["classes"]]
    environment = Environment(
        loader=PackageLoader("dogbreeds.report"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("run.html").render(
        metrics=metrics,
        config=(run_dir / "config.yaml").read_text(encoding="utf-8"),
        curves=Markup(plots.learning_curves(history, metrics["reference/val_accuracy"])),
        confusion=Markup(plots.confusion(metrics["test/confusion"], names)),
        breeds=_breeds(metrics, names),
        mistakes=_mistakes(metrics["test/confusion"], names),
    )
    target = run_dir / "report.html"
    temporary = target.with_suffix(".partial")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(target)
    return target


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

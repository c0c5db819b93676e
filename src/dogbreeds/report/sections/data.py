"""What the run learned from: photos of each split and class."""

from collections.abc import Mapping, Sequence

from dogbreeds.formats import counted
from dogbreeds.report.chart import ACCENT, SOFT, WARM, Chart, Table, bars, chart, figure, label
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section

_MAX_SIDEWAYS = 24
_MAX_UNUSED = 100


def data(run: Run) -> Section:
    facts, metrics = run.record.facts, run.metrics
    if not run.images:
        return Section("data", "Data", missing="the photos have not been counted yet")
    counts = per_class(run)
    content = {
        "images": run.images,
        "classes": len(run.classes),
        "unreadable": metrics.get("unreadable", facts.unreadable),
        "unused": [(row["path"], row["reason"]) for row in run.unused[:_MAX_UNUSED]],
        "more_unused": max(0, len(run.unused) - _MAX_UNUSED),
        "excluded": metrics.get("excluded", facts.excluded),
        "in_several_splits": metrics.get("in_several_splits", facts.in_several_splits),
        "directory": run.config["data"]["dir"],
        "charts": [class_chart(counts, [run.name(folder) for folder in run.classes])] if counts else [],
    }
    return Section("data", "Data", content)


def per_class(run: Run) -> dict[str, list[int]]:
    """Returns the photos of each class, in the order of the classes, of the splits for which they are known."""
    found = {"train": list(run.record.facts.class_counts.values())}
    found |= {split: matrix.sum(axis=1).tolist() for split, matrix in run.record.confusion.items()}
    return {split: counts for split, counts in found.items() if counts}


def class_chart(counts: Mapping[str, Sequence[int]], names: Sequence[str]) -> Chart:
    totals = [sum(of_class) for of_class in zip(*counts.values(), strict=True)]
    order = sorted(range(len(names)), key=lambda position: -totals[position])
    sideways = len(names) <= _MAX_SIDEWAYS
    shown = [label(names[position]) for position in order]
    across, along = ("y", "x") if sideways else ("x", "y")
    drawn = []
    for split, color in {"train": ACCENT, "valid": SOFT, "test": WARM}.items():
        if split in counts:
            lengths = [counts[split][position] for position in order]
            hover = f"<b>%{{{across}}}</b>: %{{{along}}} in {split}<extra></extra>"
            drawn.append(bars(shown, lengths, color, hover, sideways=sideways) | {"name": split})
    top, last = order[0], order[-1]
    message = f"{names[top]} has the most photos, {totals[top]:,}, and {names[last]} the fewest, {totals[last]:,}."
    if totals[top] == totals[last]:
        message = f"Each class has {counted(totals[top], 'photo')}."
    categories = {"type": "category", "showgrid": False}
    layout = {
        "barmode": "stack",
        "bargap": 0.25 if sideways else 0.1,
        "xaxis": {} if sideways else {**categories, "tickangle": -60},
        "yaxis": {**categories, "autorange": "reversed"} if sideways else {},
        "hovermode": "closest",
    }
    titles = ("photos", "") if sideways else ("", "photos")
    rows = [(names[one], *(f"{of_split[one]:,}" for of_split in counts.values())) for one in order]
    height = 140 + 24 * len(names) if sideways else 420
    table, whole = Table(("class", *counts), rows), figure(drawn, *titles, layout)
    return chart("photos-classes", "Photos of each class", message, whole, height=height, table=table)

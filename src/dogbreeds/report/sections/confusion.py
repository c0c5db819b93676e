"""Which breed is mistaken for which, and how well each breed is classified."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dogbreeds.report.chart import Chart, Figure, Table, label
from dogbreeds.report.formats import counted, percent
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section

Matrix = Sequence[Sequence[int]]
_MAX_MISTAKES = 20
_MAX_NUMBERED = 20
# Share of mistakes in the full colour, at least: otherwise a matrix with few of them would show single ones in it.
_MIN_FULL = 0.25


def confusion(run: Run) -> Section:
    title = "Confusions"
    if "test/confusion" not in run.metrics:
        return Section("confusion", title, missing="the test photos are classified at the end of a run")
    matrix, names = run.metrics["test/confusion"], [run.name(folder) for folder in run.classes]
    found = mistakes(matrix, names)
    content = {
        "chart": matrix_chart(matrix, names, found),
        "mistakes": found[:_MAX_MISTAKES],
        "all_mistakes": len(found),
        "breeds": breeds(run.metrics["test/per_class_accuracy"], matrix, names),
    }
    return Section("confusion", title, content)


def breeds(accuracies: Sequence[float], matrix: Matrix, names: Sequence[str]) -> list[tuple[str, float, int, int]]:
    """Returns name, accuracy, correctly classified photos and photos of each breed, the hardest first."""
    correct = np.diagonal(matrix).tolist()
    rows = zip(names, accuracies, correct, map(sum, matrix), strict=True)
    return sorted(rows, key=lambda row: row[1])


def mistakes(matrix: Matrix, names: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """Returns label, prediction, count and share of the label's photos of each mistake, the most frequent first."""
    found = [
        (names[row], names[column], count, count / sum(counts))
        for row, counts in enumerate(matrix)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(found, key=lambda mistake: (-mistake[2], -mistake[3]))


def matrix_chart(matrix: Matrix, names: Sequence[str], found: Sequence[tuple[str, str, int, float]]) -> Chart:
    how = "The diagonal is correct, the rest are mistakes; drag to zoom in, double-click to zoom out."
    message = "Every test photo is classified correctly."
    if found:
        breed, answer, count, share = found[0]
        much = f"{counted(count, 'photo')}, {percent(share, 0)} of them"
        message = f"Most often {breed} is mistaken for {answer}: {much}."
    rows = [(breed, answer, str(count), percent(share, 0)) for breed, answer, count, share in found[:100]]
    orders = {"By similarity": by_similarity(matrix), "By name": list(range(len(names)))}
    return Chart(
        "confusion",
        "Confusion matrix of the test photos",
        f"{message} {how}",
        {name: matrix_figure(matrix, names, order) for name, order in orders.items()},
        height=min(860, max(420, 180 + 34 * len(names))),
        table=Table(("breed", "predicted", "photos", "share"), rows),
    )


def matrix_figure(matrix: Matrix, names: Sequence[str], order: Sequence[int]) -> Figure:
    """Draws shares of each row's breed: the diagonal in the accent colour, mistakes in another.

    One heatmap holds both: the diagonal counts up from zero and mistakes count down, each with a scale of its own.
    """
    counts = np.asarray(matrix)[np.ix_(order, order)]
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    diagonal = np.eye(len(order), dtype=bool)
    lowest = -max(_MIN_FULL, float(shares[~diagonal].max(initial=0)))
    zero = lowest / (lowest - 1)
    shown = [label(names[position]) for position in order]
    heat = {
        "type": "heatmap",
        "x": shown,
        "y": shown,
        "z": np.where(diagonal, shares, -shares).round(3).tolist(),
        "customdata": counts.tolist(),
        "zmin": lowest,
        "zmax": 1,
        "colorscale": [[0, "var(--warm)"], [zero, "var(--surface)"], [1, "var(--accent)"]],
        "showscale": False,
        "xgap": 1 if len(order) <= 40 else 0,
        "ygap": 1 if len(order) <= 40 else 0,
        "hovertemplate": "<b>%{y}</b><br>classified as <b>%{x}</b><br>photos: %{customdata}<extra></extra>",
    }
    if len(order) <= _MAX_NUMBERED:
        heat |= {"text": [[str(count or "") for count in row] for row in counts.tolist()], "texttemplate": "%{text}"}
    names_axis = {"showgrid": False, "type": "category"}
    layout = {
        "xaxis": names_axis | {"title": {"text": "predicted breed"}, "tickangle": -45},
        "yaxis": names_axis | {"title": {"text": "breed"}, "autorange": "reversed"},
        "hovermode": "closest",
        # The script keeps such a chart from becoming taller than wide on a phone.
        "meta": {"square": True},
    }
    return {"data": [heat], "layout": layout}


def by_similarity(matrix: Matrix) -> list[int]:
    """Orders classes so that those that are mistaken for each other are neighbours.

    Average-linkage clustering over the shares of confusion in both directions; two clusters are joined at the ends
    that are mistaken for each other the most.
    """
    counts = np.asarray(matrix, dtype=float)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    alike = shares + shares.T
    links = alike.copy()
    np.fill_diagonal(links, -np.inf)
    chains: dict[int, list[int]] = {position: [position] for position in range(len(counts))}
    while len(chains) > 1:
        left, right = sorted(divmod(int(links.argmax()), len(counts)))
        one, other = chains[left], chains.pop(right)
        turns = [(a, b) for a in (one, one[::-1]) for b in (other, other[::-1])]
        sizes = len(one), len(other)
        joined = max(turns, key=lambda turn: alike[turn[0][-1], turn[1][0]])
        chains[left] = joined[0] + joined[1]
        merged = (sizes[0] * links[left] + sizes[1] * links[right]) / sum(sizes)
        links[left], links[:, left] = merged, merged
        links[right], links[:, right], links[left, left] = -np.inf, -np.inf, -np.inf
    return next(iter(chains.values()), [])

"""Which breed is taken for which, and how well each breed is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dogbreeds.report.chart import Chart, Figure, Table, label
from dogbreeds.report.formats import counted, percent
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section

Matrix = Sequence[Sequence[int]]
_MOST_MISTAKES = 20
_NUMBERED = 20
# A matrix with few mistakes would otherwise show a single one in the full colour.
_LEAST_FULL = 0.25


def confusion(run: Run) -> Section:
    """Returns the section of the confusion matrix and of each breed's accuracy, on test photos."""
    title = "Confusions"
    if "test/confusion" not in run.metrics:
        return Section("confusion", title, missing="the test photos are answered at the end of a run")
    matrix, names = run.metrics["test/confusion"], [run.name(folder) for folder in run.classes]
    found = mistakes(matrix, names)
    return Section(
        "confusion",
        title,
        {
            "chart": matrix_chart(matrix, names, found),
            "mistakes": found[:_MOST_MISTAKES],
            "all_mistakes": len(found),
            "breeds": breeds(run.metrics["test/per_class_accuracy"], matrix, names),
        },
    )


def breeds(accuracies: Sequence[float], matrix: Matrix, names: Sequence[str]) -> list[tuple[str, float, int, int]]:
    """Returns name, accuracy, right answers and photos of each breed, the hardest first."""
    rows = [
        (name, accuracy, counts[position], sum(counts))
        for position, (name, accuracy, counts) in enumerate(zip(names, accuracies, matrix, strict=True))
    ]
    return sorted(rows, key=lambda row: row[1])


def mistakes(matrix: Matrix, names: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """Returns breed, answer, count and share of the breed's photos of each confusion, the most frequent first."""
    found = [
        (names[row], names[column], count, count / sum(counts))
        for row, counts in enumerate(matrix)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(found, key=lambda mistake: (-mistake[2], -mistake[3]))


def matrix_chart(matrix: Matrix, names: Sequence[str], found: Sequence[tuple[str, str, int, float]]) -> Chart:
    """Draws the matrix in the order of similarity and of the names."""
    how = "The diagonal is right answers, all else are mistakes; drag to enlarge, double-click to go back."
    message = "Every test photo is answered rightly."
    if found:
        breed, answer, count, share = found[0]
        message = f"{breed} is taken for {answer} most often: {counted(count, 'photo')}, {percent(share, 0)} of them."
    orders = {"Similar ones together": by_similarity(matrix), "By name": list(range(len(names)))}
    return Chart(
        "confusion",
        "Confusion matrix of the test photos",
        f"{message} {how}",
        {name: matrix_figure(matrix, names, order) for name, order in orders.items()},
        height=min(860, max(420, 180 + 34 * len(names))),
        table=Table(
            ("breed", "answer", "photos", "share"), [(a, b, str(n), percent(s, 0)) for a, b, n, s in found[:100]]
        ),
    )


def matrix_figure(matrix: Matrix, names: Sequence[str], order: Sequence[int]) -> Figure:
    """Draws shares of each row's breed: right answers in the accent colour, mistakes in the other.

    One heatmap holds both: what is right counts up from zero and mistakes count down, each with a scale of its own.

    Args:
        matrix: Photos of the row's breed that were called the column's breed.
        names: Of the breeds.
        order: Their positions in the order in which they are drawn.
    """
    counts = np.asarray(matrix)[np.ix_(order, order)]
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    right = np.eye(len(order), dtype=bool)
    least = -max(_LEAST_FULL, float(shares[~right].max(initial=0)))
    zero = least / (least - 1)
    shown = [label(names[position]) for position in order]
    heat = {
        "type": "heatmap",
        "x": shown,
        "y": shown,
        "z": np.where(right, shares, -shares).round(3).tolist(),
        "customdata": counts.tolist(),
        "zmin": least,
        "zmax": 1,
        "colorscale": [[0, "var(--warm)"], [zero, "var(--surface)"], [1, "var(--accent)"]],
        "showscale": False,
        "xgap": 1 if len(order) <= 40 else 0,
        "ygap": 1 if len(order) <= 40 else 0,
        "hovertemplate": "<b>%{y}</b><br>answered as <b>%{x}</b><br>photos: %{customdata}<extra></extra>",
    }
    if len(order) <= _NUMBERED:
        heat |= {"text": [[str(count or "") for count in row] for row in counts.tolist()], "texttemplate": "%{text}"}
    tilted = {"tickangle": -45, "showgrid": False, "type": "category"}
    layout = {
        "xaxis": {"title": {"text": "answer"}, **tilted},
        "yaxis": {"title": {"text": "breed"}, "autorange": "reversed", "showgrid": False, "type": "category"},
        "hovermode": "closest",
        # The script keeps such a chart from becoming taller than wide on a phone.
        "meta": {"square": True},
    }
    return {"data": [heat], "layout": layout}


def by_similarity(matrix: Matrix) -> list[int]:
    """Orders classes so that those that are taken for each other stand together.

    Average-linkage clustering over the shares of confusion in both directions; of two clusters that are joined, the
    ends that are taken for each other the most come to touch.
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

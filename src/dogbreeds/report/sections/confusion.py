"""Which breed is mistaken for which, and how well each breed is classified."""

from collections.abc import Sequence

import numpy as np

from dogbreeds.debug.record import Matrix
from dogbreeds.formats import counted, percent
from dogbreeds.report.chart import FIGURES, Chart, Figure, Table, figure, label
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section

_MAX_MISTAKES = 20
_MAX_NUMBERED = 20
_MAX_DRAWN = 150
# Share of mistakes in the full colour, at least: otherwise a matrix with few of them would show single ones in it.
_MIN_FULL = 0.25


def confusion(run: Run) -> Section:
    title = "Confusions"
    if "test" not in run.record.confusion:
        return Section("confusion", title, missing="the test photos are classified at the end of a run")
    matrix, names = run.record.confusion["test"], [run.name(folder) for folder in run.classes]
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
    rows = zip(names, accuracies, matrix.diagonal().tolist(), matrix.sum(axis=1).tolist(), strict=True)
    return sorted(rows, key=lambda row: row[1])


def mistakes(matrix: Matrix, names: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """Returns label, prediction, count and share of the label's photos of each mistake, the most frequent first."""
    photos = matrix.sum(axis=1).tolist()
    found = [
        (names[row], names[column], count := int(matrix[row, column]), count / photos[row])
        for row, column in np.argwhere(matrix).tolist()
        if row != column
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
    wrong = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    drawn = np.sort(np.argsort(-wrong, kind="stable")[:_MAX_DRAWN])
    if len(drawn) < len(names):
        how = f"Drawn are the {len(drawn)} breeds of {len(names):,} with the most mistakes. {how}"
    orders = {"By similarity": drawn[by_similarity(matrix[np.ix_(drawn, drawn)])], "By name": drawn}
    return Chart(
        "confusion",
        "Confusion matrix of the test photos",
        f"{message} {how}",
        {name: matrix_figure(matrix, names, order.tolist()) for name, order in orders.items()},
        height=min(860, max(420, 180 + 34 * len(drawn))),
        table=Table(("breed", "predicted", "photos", "share"), rows),
    )


def matrix_figure(matrix: Matrix, names: Sequence[str], order: Sequence[int]) -> Figure:
    """Draws shares of each row's breed: the diagonal in one colour, mistakes in another; numbers can be read on both.

    One heatmap holds both: the diagonal counts up from zero and mistakes count down, each with a scale of its own.
    The page's script makes it of the `cells` that are not zero: row, column, photos, share.
    """
    counts = matrix[np.ix_(order, order)]
    shares = counts / matrix.sum(axis=1, keepdims=True)[order].clip(1)
    np.fill_diagonal(shares, -shares.diagonal())
    lowest, places = -max(_MIN_FULL, float(shares.max(initial=0))), np.nonzero(counts)
    zero = lowest / (lowest - 1)
    shown = [label(names[position]) for position in order]
    heat = {
        **FIGURES["cells"],
        "x": shown,
        "y": shown,
        "cells": list(zip(*(part.tolist() for part in (*places, counts[places], -shares[places])), strict=True)),
        "zmin": lowest,
        "colorscale": [[0, "var(--wrong)"], [zero, "var(--surface)"], [1, "var(--right)"]],
        "xgap": 1 if len(order) <= 40 else 0,
        "ygap": 1 if len(order) <= 40 else 0,
    }
    if len(order) <= _MAX_NUMBERED:
        heat |= {"texttemplate": "%{text}", "textfont": {"color": "var(--ink)"}}
    return figure([heat], "predicted breed", "breed", FIGURES["confusion"])


def by_similarity(matrix: Matrix) -> list[int]:
    """Orders classes so that those that are mistaken for each other are neighbours.

    Average-linkage clustering over the shares of confusion in both directions; two clusters are joined at the ends
    that are mistaken for each other the most.
    """
    shares = matrix / matrix.sum(axis=1, keepdims=True).clip(1)
    alike = shares + shares.T
    links = alike.copy()
    np.fill_diagonal(links, -np.inf)
    chains: dict[int, list[int]] = {position: [position] for position in range(len(matrix))}
    while len(chains) > 1:
        left, right = sorted(divmod(int(links.argmax()), len(matrix)))
        one, other = chains[left], chains.pop(right)
        turns = [(a, b) for a in (one, one[::-1]) for b in (other, other[::-1])]
        sizes = len(one), len(other)
        joined = max(turns, key=lambda turn: alike[turn[0][-1], turn[1][0]])
        chains[left] = joined[0] + joined[1]
        merged = (sizes[0] * links[left] + sizes[1] * links[right]) / sum(sizes)
        links[left], links[:, left] = merged, merged
        links[right], links[:, right], links[left, left] = -np.inf, -np.inf, -np.inf
    return next(iter(chains.values()), [])

"""The report's pictures, as SVG text that stands in the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

INK = "#1f2933"
TRAIN = "#9aa5b1"
VALID = "#0b7285"
REFERENCE = "#e8590c"
_MOST_NAMED_CLASSES = 30


def learning_curves(rows: Sequence[dict[str, float]], reference: float) -> str:
    """Draws loss and accuracy per epoch, with the exact linear solution's validation accuracy as a line."""
    figure = Figure(figsize=(9, 3.1))
    loss, accuracy = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        axes.plot(epochs, [row[f"train/{name}"] for row in rows], color=TRAIN, marker="o", ms=3, label="train")
        axes.plot(epochs, [row[f"val/{name}"] for row in rows], color=VALID, marker="o", ms=3, label="valid")
        axes.set_xlabel("epoch")
        axes.set_title(name, loc="left")
        axes.xaxis.get_major_locator().set_params(integer=True)
    accuracy.axhline(reference, color=REFERENCE, ls="--", lw=1, label="exact linear, valid")
    accuracy.set_ylim(0, 1.02)
    loss.set_ylim(bottom=0)
    accuracy.legend(frameon=False, loc="lower right")
    return _svg(figure)


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Draws which breeds are taken for which, as shares of the row's breed."""
    counts = np.asarray(matrix, dtype=float)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    few = len(names) <= _MOST_NAMED_CLASSES
    side = min(11.0, 2.6 + 0.42 * len(names))
    figure = Figure(figsize=(side + 1.4, side))
    axes = figure.subplots()
    axes.imshow(shares, cmap="GnBu", vmin=0, vmax=1)
    axes.set_xlabel("answer")
    axes.set_ylabel("breed")
    if few:
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axes.set_yticks(range(len(names)), names)
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[row, column] > 0.55 else INK
            axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=color, fontsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    settings: dict[Any, Any] = {
        "font.size": 9,
        "text.color": INK,
        "svg.fonttype": "none",
        "svg.hashsalt": "dogbreeds",
        "font.family": "sans-serif",
    }
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.set_layout_engine("constrained")
    buffer = io.StringIO()
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

"""How training went: losses and accuracies, by epoch and by step."""

import math
from collections.abc import Mapping, Sequence

from dogbreeds.debug.record import EVAL
from dogbreeds.formats import percent, short
from dogbreeds.report.chart import ACCENT, SOFT, WARM, Chart, Table, chart, columns, figure, line, log_axis, ticks
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section


def learning(run: Run) -> Section:
    names = ("loss", "accuracy") if run.history else ()
    charts = [per_epoch(run.history, name, run.metrics.get(f"reference/val_{name}")) for name in names]
    if run.record.scalar("loss"):
        charts.append(per_step(run))
    missing = "" if charts else "no epoch has finished yet"
    return Section("learning", "Learning", {"charts": charts}, missing)


def per_epoch(history: Sequence[Mapping[str, float]], name: str, reference: float | None) -> Chart:
    """Draws training and validation `loss` or `accuracy` of every epoch, with the exact reference as a line."""
    epochs = [row["epoch"] for row in history]
    train, valid = ([row[f"{split}/{name}"] for row in history] for split in ("train", "val"))
    hover = "%{y:.4f}" if name == "loss" else "%{y:.1%}"
    data = [
        line(epochs, train, "training", SOFT, markers=True, hover=hover),
        line(epochs, valid, "validation", ACCENT, markers=True, hover=hover),
    ]
    shown = short if name == "loss" else percent
    best = best_epoch(history)
    ending = f"{valid[best]:.4g}" if name == "loss" else percent(valid[best])
    message = f"Epoch {epochs[best]:.0f} of {epochs[-1]:.0f} has the lowest validation loss; "
    message += f"its validation {name} is {ending}"
    if reference is not None:
        ends = [epochs[0], epochs[-1]] if len(epochs) > 1 else [epochs[0] - 0.5, epochs[0] + 0.5]
        title = "exact linear, validation"
        data.append(line(ends, [reference, reference], title, WARM, dash="dash", width=1.5, hover=hover))
        message += f", the exact linear reference has {shown(reference)}"
    y_axis = {"tickformat": ".0%", "rangemode": "normal"} if name == "accuracy" else {"rangemode": "tozero"}
    layout = {"hovermode": "x unified", "xaxis": ticks(epochs), "yaxis": y_axis}
    rows = [(f"{epoch:.0f}", *map(shown, both)) for epoch, *both in zip(epochs, train, valid, strict=True)]
    title, drawn = f"{name.capitalize()} of each epoch", figure(data, "epoch", name, layout)
    table = Table(("epoch", "training", "validation"), rows)
    return chart(f"{name}-epochs", title, f"{message}.", drawn, table=table)


def per_step(run: Run) -> Chart:
    train = run.record.scalar("loss")
    valid = run.record.means("loss", EVAL)
    data = [line(*columns(train), "training batch", SOFT, width=1.5)]
    (_, first), (last_step, last) = train[0], train[-1]
    message = f"The cross-entropy of a training batch went from {first:.4g} to {last:.4g} at step {last_step}"
    if valid:
        data.append(line(*columns(valid), "validation, mean of its batches", ACCENT, markers=True))
        message += f"; that of all validation photos is {valid[-1][1]:.4g} at the end"
    # A learning rate that is far too large would squeeze all later steps into one line.
    losses = [loss for _, loss in train if math.isfinite(loss)]
    wide = bool(losses) and 0 < 30 * min(losses) < max(losses)
    layout = {"hovermode": "x unified", "yaxis": log_axis(losses) if wide else {"rangemode": "tozero"}}
    drawn = figure(data, "step", "cross-entropy", layout)
    return chart("loss-steps", "Cross-entropy of each recorded step", f"{message}.", drawn)


def best_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """Returns the position of the epoch with the lowest finite validation loss."""
    losses = [row["val/loss"] for row in history]
    return min(range(len(losses)), key=lambda row: losses[row] if math.isfinite(losses[row]) else math.inf)

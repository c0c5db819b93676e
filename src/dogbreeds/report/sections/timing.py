"""Where the time went: the phases of the run, the steps of training and their parts, the operators of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dogbreeds.debug.measurements import PARTS, Phase, StepTimes
from dogbreeds.report.chart import ACCENT, WARM, Chart, Table, chart, columns, figure, label, thinned
from dogbreeds.report.formats import counted, duration, percent
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section
from dogbreeds.report.sections.timeline import Timeline
from dogbreeds.run_directory import TRACE

# As the rule StepOutlier has it.
_DEVIATIONS = 3.0
_BINS = 30
_MOST_OF_A_PHASE = 200
_MOST_OUTLIERS, _MOST_OPERATORS = 12, 25
_WORDS = {
    "data": "waiting for data",
    "move": "moving to the device",
    "forward": "forward",
    "backward": "backward",
    "record": "debugger",
    "optimizer": "optimizer",
    "logging": "metrics and logging",
}


@dataclass(frozen=True)
class Spread:
    """How long something took, in seconds.

    Attributes:
        name: What.
        maximum: The longest.
        p99: The 99th percentile.
        p95: The 95th.
        p50: The median.
        minimum: The shortest.
        share: Of the time of all steps.
    """

    name: str
    maximum: float
    p99: float
    p95: float
    p50: float
    minimum: float
    share: float


def timing(run: Run) -> Section:
    """Returns the section of phases, steps and operators."""
    steps, phases = run.record.measurements.steps, run.record.measurements.phases
    charts = []
    if phases:
        charts.append(phase_chart(phases, Timeline(run.record.measurements)))
    if steps:
        charts += [part_chart(steps), histogram(steps)]
    operators = run.operators.get("operators", [])
    content = {
        "charts": charts,
        "spreads": spreads(steps),
        "outliers": outliers(steps)[:_MOST_OUTLIERS],
        "all_outliers": len(outliers(steps)),
        "steps": len(steps),
        "operators": operators[:_MOST_OPERATORS],
        "traced": run.operators.get("steps", 0),
        "trace": TRACE if (run.directory / TRACE).is_file() else "",
    }
    there = charts or operators
    return Section("timing", "Where the time went", content, "" if there else "neither phases nor steps were timed")


def spreads(steps: Sequence[StepTimes]) -> list[Spread]:
    """Returns how long steps and their parts took; parts that took no time are left out."""
    if not steps:
        return []
    whole = sum(step.total for step in steps) or 1.0
    rows = [_spread("the whole step", [step.total for step in steps], whole)]
    rows += [_spread(_WORDS[part], [getattr(step, part) for step in steps], whole) for part in PARTS]
    return [row for row in rows if row.maximum > 0]


def _spread(name: str, values: Sequence[float], whole: float) -> Spread:
    highest, p99, p95, p50, least = (float(value) for value in np.percentile(values, (100, 99, 95, 50, 0)))
    return Spread(name, highest, p99, p95, p50, least, sum(values) / whole)


def outliers(steps: Sequence[StepTimes]) -> list[tuple[StepTimes, str, float]]:
    """Returns steps that took three standard deviations longer than the mean, the longest first.

    Returns:
        The step, the part that exceeded its own median the most, and by how many seconds.
    """
    if not steps:
        return []
    totals = np.array([step.total for step in steps])
    limit = totals.mean() + _DEVIATIONS * totals.std()
    usual = {part: float(np.median([getattr(step, part) for step in steps])) for part in PARTS}
    found = []
    for step in steps:
        if step.total > limit:
            part = max(PARTS, key=lambda name: getattr(step, name) - usual[name])
            found.append((step, _WORDS[part], getattr(step, part) - usual[part]))
    return sorted(found, key=lambda outlier: -outlier[0].total)


def phase_chart(phases: Sequence[Phase], timeline: Timeline) -> Chart:
    """Draws when each phase began and how long it took."""
    longest = max(phases, key=lambda phase: phase.seconds)
    names = dict.fromkeys(phase.name for phase in phases)
    every = {name: [phase for phase in phases if phase.name == name] for name in names}
    shown = [phase for name in names for phase in thinned(every[name], _MOST_OF_A_PHASE)]
    spans = [timeline.span(phase) for phase in shown]
    words = {name: _taken(named) for name, named in every.items()}
    # A phase that comes again and again has its words beside the last one.
    last = {name: named[-1] for name, named in every.items()}
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [label(phase.name) for phase in shown],
        "x": [ended - began for began, ended in spans],
        "base": [began for began, _ in spans],
        "marker": {"color": ACCENT},
        "text": [words[phase.name] if phase is last[phase.name] else "" for phase in shown],
        "customdata": [duration(phase.seconds) for phase in shown],
        "textposition": "auto",
        "hovertemplate": "<b>%{y}</b>: %{customdata}<extra></extra>",
    }
    share = longest.seconds / (timeline.seconds or 1.0)
    again = len(timeline.starts) - 1
    message = f"The longest phase is {longest.name} with {duration(longest.seconds)}, {percent(share, 0)} of the run"
    message += f"; the run was continued {counted(again, 'time')}, and the pauses are left out." if again > 0 else "."
    layout = {
        # Room for the words beside the last bar.
        "xaxis": {"range": [0, 1.1 * max(ended for _, ended in spans)]},
        "yaxis": {"autorange": "reversed", "showgrid": False},
        "showlegend": False,
    }
    return chart(
        "phases",
        "Phases of the run",
        message,
        figure([bars], "seconds of the run", "", layout),
        height=100 + 34 * len(names),
        table=Table(
            ("phase", "times", "seconds"),
            [(name, str(len(named)), f"{sum(one.seconds for one in named):.2f}") for name, named in every.items()],
        ),
    )


def _taken(phases: Sequence[Phase]) -> str:
    seconds = duration(sum(phase.seconds for phase in phases))
    return seconds if len(phases) == 1 else f"{seconds} in {len(phases)}"


def part_chart(steps: Sequence[StepTimes]) -> Chart:
    """Draws the share of each part in the time of all steps."""
    shares = [row for row in spreads(steps) if row.name in _WORDS.values()]
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [row.name for row in shares],
        "x": [row.share for row in shares],
        "text": [percent(row.share) for row in shares],
        "textposition": "auto",
        "marker": {"color": ACCENT},
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }
    largest = max(shares, key=lambda row: row.share)
    layout = {
        "xaxis": {"tickformat": ".0%", "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "showgrid": False},
        "showlegend": False,
    }
    return chart(
        "step-parts",
        "What a step consists of",
        f"The most time goes to {largest.name}: {percent(largest.share, 0)} of all {counted(len(steps), 'step')}.",
        figure([bars], "of the time of all steps", "", layout),
        height=90 + 32 * len(shares),
    )


def _whole(most: int) -> dict[str, dict[str, int]]:
    """Returns the part of a layout that keeps the ticks of small counts whole."""
    return {"yaxis": {"dtick": 1}} if most < 6 else {}


def histogram(steps: Sequence[StepTimes]) -> Chart:
    """Draws how long steps took: one by one, and how often."""
    times, values = columns((float(step.step), 1e3 * step.total) for step in steps)
    limit = 1e3 * float(np.percentile([step.total for step in steps], 99.5))
    edges = np.histogram_bin_edges([1e3 * step.total for step in steps if 1e3 * step.total <= limit], bins=_BINS)
    counts, _ = np.histogram([1e3 * step.total for step in steps], bins=edges)
    centres = (edges[:-1] + edges[1:]) / 2
    bars = {
        "type": "bar",
        "x": centres.tolist(),
        "y": counts.tolist(),
        "marker": {"color": ACCENT},
        "hovertemplate": "%{x:.3~g} ms: %{y} steps<extra></extra>",
    }
    slow = {id(step) for step, _, _ in outliers(steps)}
    color = [WARM if id(step) in slow else ACCENT for step in steps]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": times,
        "y": values,
        "marker": {"color": color if len(times) == len(steps) else ACCENT, "size": 4},
        "hovertemplate": "step %{x}: %{y:.3~g} ms<extra></extra>",
    }
    ordinary = {"showlegend": False, "bargap": 0.05}
    middle, p95 = (duration(float(np.percentile([step.total for step in steps], share))) for share in (50, 95))
    views = {
        "How often": figure([bars], "milliseconds", "steps", ordinary | _whole(counts.max())),
        "Step by step": figure([points], "step", "milliseconds", ordinary | {"yaxis": {"rangemode": "tozero"}}),
    }
    message = f"Half of the steps take less than {middle}, and 95% less than {p95}."
    return Chart("step-durations", "Step durations", message, views, height=280)

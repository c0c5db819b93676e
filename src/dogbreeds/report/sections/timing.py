"""Where the time went: the phases of the run, the steps of training and their parts, the operators of a trace."""

from collections.abc import Mapping, Sequence

import numpy as np

from dogbreeds.debug.measurements import PARTS, START_UP, Measurements, Percentiles, Phase, StepTimes
from dogbreeds.debug.rules.steps import StepOutlier
from dogbreeds.files import yaml_beside
from dogbreeds.formats import counted, duration, percent
from dogbreeds.report.chart import ACCENT, WARM, Chart, Table, bars, chart, columns, figure, label, points, thinned
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section
from dogbreeds.run_directory import TRACE

# As the rule StepOutlier has it by default.
_DEVIATIONS = StepOutlier.stddev
_BINS = 30
# Bars below each other, the first at the top.
_DOWNWARDS = {"yaxis": {"autorange": "reversed", "showgrid": False}, "showlegend": False}
_MAX_OF_A_PHASE = 200
_MAX_OUTLIERS, _MAX_OPERATORS = 12, 25
_WORDS: Mapping[str, str] = yaml_beside(__file__, "parts.yaml")


class Timeline:
    """Turns times of day into seconds of running.

    A run that was resumed the next day would otherwise be two dots at the ends of an empty chart.
    """

    def __init__(self, measurements: Measurements) -> None:
        times = [sample.at for sample in measurements.samples] + [step.at for step in measurements.steps]
        times = sorted(times + [time for phase in measurements.phases for time in (phase.began, phase.ended)])
        starts = sorted(phase.began for phase in measurements.phases if phase.name == START_UP) or times[:1]
        self._clock: list[float] = []
        self._running: list[float] = []
        elapsed = 0.0
        for start, following in zip(starts, [*starts, float("inf")][1:], strict=True):
            end = max([time for time in times if start <= time < following], default=start)
            self._clock += [start, end]
            self._running += [elapsed, elapsed + end - start]
            elapsed += end - start
        self.starts, self.seconds = starts, elapsed

    def of(self, times: Sequence[float]) -> list[float]:
        return [float(second) for second in np.interp(times, self._clock, self._running)] if self._clock else []

    def span(self, phase: Phase) -> tuple[float, float]:
        began, ended = self.of([phase.began, phase.ended])
        return began, ended


def outermost(phases: Sequence[Phase]) -> list[Phase]:
    """Returns the phases that are not part of another, in order: validations are part of the training."""
    found: list[Phase] = []
    for phase in sorted(phases, key=lambda phase: (phase.began, -phase.ended)):
        if not found or phase.ended > found[-1].ended:
            found.append(phase)
    return found


def timing(run: Run) -> Section:
    steps, phases = run.record.measurements.steps, run.record.measurements.phases
    charts = [phase_chart(phases, Timeline(run.record.measurements))] if phases else []
    charts += [part_chart(steps), histogram(steps)] if steps else []
    operators = run.operators.get("operators", [])
    slow = outliers(steps)
    content = {
        "charts": charts,
        "durations": durations(steps),
        "outliers": slow[:_MAX_OUTLIERS],
        "all_outliers": len(slow),
        "deviations": f"{_DEVIATIONS:g}",
        "steps": len(steps),
        "operators": operators[:_MAX_OPERATORS],
        "traced": run.operators.get("steps", 0),
        "trace": TRACE if (run.directory / TRACE).is_file() else "",
    }
    missing = "" if charts or operators else "neither phases nor steps were timed"
    return Section("timing", "Where the time went", content, missing)


def durations(steps: Sequence[StepTimes]) -> list[tuple[Percentiles, float]]:
    """Returns how long steps and their parts took, each with its share of all time; what took none is left out."""
    if not steps:
        return []
    times = {"the whole step": [step.total for step in steps]}
    times |= {_WORDS[part]: [getattr(step, part) for step in steps] for part in PARTS}
    whole = sum(times["the whole step"]) or 1.0
    return [(Percentiles.of(name, "s", taken), sum(taken) / whole) for name, taken in times.items() if max(taken) > 0]


def outliers(steps: Sequence[StepTimes]) -> list[tuple[StepTimes, str, float]]:
    """Returns the steps that took several standard deviations longer than the mean, the longest first.

    With each comes the part that exceeded its own median the most, and by how many seconds.
    """
    if not steps:
        return []
    totals = np.array([step.total for step in steps])
    limit = totals.mean() + _DEVIATIONS * totals.std()
    usual = {part: float(np.median([getattr(step, part) for step in steps])) for part in PARTS}
    found = []
    for step in steps:
        if step.total > limit:
            more, part = max((getattr(step, name) - usual[name], name) for name in PARTS)
            found.append((step, _WORDS[part], more))
    return sorted(found, key=lambda outlier: -outlier[0].total)


def phase_chart(phases: Sequence[Phase], timeline: Timeline) -> Chart:
    names = dict.fromkeys(phase.name for phase in phases)
    by_name = {name: [phase for phase in phases if phase.name == name] for name in names}
    taken = {name: sum(phase.seconds for phase in named) for name, named in by_name.items()}
    longest, again = max(phases, key=lambda phase: phase.seconds), len(timeline.starts) - 1
    share = longest.seconds / (timeline.seconds or 1.0)
    message = f"The longest phase is {longest.name}: {duration(longest.seconds)}, {percent(share, 0)} of the run"
    message += f"; the run was resumed {counted(again, 'time')}, pauses are left out." if again > 0 else "."
    rows = [(name, str(len(named)), f"{taken[name]:.2f}") for name, named in by_name.items()]
    drawn = _phase_bars(by_name, taken, timeline)
    table = Table(("phase", "times", "seconds"), rows)
    return chart("phases", "Phases of the run", message, drawn, height=100 + 38 * len(names), table=table)


def _phase_bars(
    by_name: Mapping[str, Sequence[Phase]], taken: Mapping[str, float], timeline: Timeline
) -> dict[str, object]:
    shown = [phase for named in by_name.values() for phase in thinned(named, _MAX_OF_A_PHASE)]
    spans = [timeline.span(phase) for phase in shown]
    # Not beside the bars: on a phone there is no room at the right.
    words = {
        name: f"{label(name)}<br>{duration(taken[name])}" + (f" in {len(named)}" if len(named) > 1 else "")
        for name, named in by_name.items()
    }
    names, lengths = [words[phase.name] for phase in shown], [ended - began for began, ended in spans]
    drawn = bars(names, lengths, ACCENT, "<b>%{customdata}</b><extra></extra>", sideways=True) | {
        "base": [began for began, _ in spans],
        "customdata": [f"{label(phase.name)}: {duration(phase.seconds)}" for phase in shown],
    }
    return figure([drawn], "seconds of the run", "", _DOWNWARDS)


def part_chart(steps: Sequence[StepTimes]) -> Chart:
    shares = {row.name: share for row, share in durations(steps) if row.name in _WORDS.values()}
    drawn = bars(list(shares), list(shares.values()), ACCENT, "%{y}: %{x:.1%}<extra></extra>", sideways=True)
    drawn |= {"text": [percent(share) for share in shares.values()], "textposition": "auto", "textangle": 0}
    largest = max(shares, key=shares.__getitem__)
    layout = _DOWNWARDS | {"xaxis": {"tickformat": ".0%", "rangemode": "tozero"}}
    message = f"Most of the time goes to {largest}: {percent(shares[largest], 0)} of {counted(len(steps), 'step')}."
    shown = figure([drawn], "of the time of all steps", "", layout)
    return chart("step-parts", "Parts of a step", message, shown, height=90 + 32 * len(shares))


def histogram(steps: Sequence[StepTimes]) -> Chart:
    totals = np.array([1e3 * step.total for step in steps])
    edges = np.histogram_bin_edges(totals[totals <= np.percentile(totals, 99.5)], bins=_BINS)
    counts, _ = np.histogram(totals, bins=edges)
    centres = (edges[:-1] + edges[1:]) / 2
    often = bars(centres.tolist(), counts.tolist(), ACCENT, "%{x:.3~g} ms: %{y} steps<extra></extra>")
    slow = {id(step) for step, _, _ in outliers(steps)}
    times, values = columns((float(step.step), 1e3 * step.total) for step in steps)
    colors = [WARM if id(step) in slow else ACCENT for step in steps] if len(times) == len(steps) else ACCENT
    one_by_one = points(times, values, colors, "step %{x}: %{y:.3~g} ms<extra></extra>", size=4)
    plain = {"showlegend": False, "bargap": 0.05}
    whole_counts = {"yaxis": {"dtick": 1}} if counts.max() < 6 else {}
    views = {
        "How often": figure([often], "milliseconds", "steps", plain | whole_counts),
        "Step by step": figure([one_by_one], "step", "milliseconds", plain | {"yaxis": {"rangemode": "tozero"}}),
    }
    middle, p95 = (duration(float(np.percentile(totals, share)) / 1e3) for share in (50, 95))
    message = f"Half of the steps take less than {middle}, and 95% less than {p95}."
    return Chart("step-durations", "Step durations", message, views, height=280)

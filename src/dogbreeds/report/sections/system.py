"""What the run used of the machine."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dogbreeds.debug.measurements import Phase, Sample, usage_percentiles
from dogbreeds.formats import percent, short
from dogbreeds.report.chart import ACCENT, SERIES, SOFT, WARM, Chart, Trace, chart, figure, label, line, thinned
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section
from dogbreeds.report.sections.timing import Timeline, outermost

_GB, _MB = 1e9, 1e6
_MAX_SAMPLES = 500
_HEIGHT = 280
# Above all of it are the names of the phases.
_PERCENTS = {"yaxis": {"range": [0, 115], "ticksuffix": "%"}}
_FROM_ZERO = {"yaxis": {"rangemode": "tozero"}}
# Of a phase: its area, as high as the chart, and its name at the top.
_PLACE = {"xref": "x", "yref": "paper"}
_SHAPE = _PLACE | {"type": "rect", "y0": 0, "y1": 1, "line": {"width": 0}, "layer": "below"}
_NAME = _PLACE | {"y": 1, "yanchor": "top", "showarrow": False, "font": {"color": "var(--soft)", "size": 11}}


def system(run: Run) -> Section:
    title, measured = "System usage", run.record.measurements
    samples = measured.samples
    if not samples:
        return Section("system", title, missing="the machine was not sampled")
    gpus = max(len(sample.gpus) for sample in samples)
    charts, rows = over_time(samples, measured.phases, Timeline(measured)), usage_percentiles(samples)
    return Section("system", title, {"rows": rows, "gpus": gpus, "charts": charts, "samples": len(samples)})


def over_time(samples: Sequence[Sample], phases: Sequence[Phase], timeline: Timeline) -> list[Chart]:
    kept = thinned(samples, _MAX_SAMPLES)
    times = timeline.of([sample.at for sample in kept])
    layout = shaded(phases, timeline) | {"hovermode": "x unified"}
    cores = len(kept[0].cores)
    cpu = [
        line(times, [sample.cpu for sample in kept], "machine", SOFT, width=1.5),
        line(times, [sample.own_cpu / max(1, cores) for sample in kept], "this run", ACCENT),
        line(times, [sample.io_wait for sample in kept], "waiting for disks", WARM, width=1.5),
    ]
    own = np.mean([sample.own_cpu for sample in samples]) / max(1, cores)
    memory = [
        line(times, [sample.memory_used / _GB for sample in kept], "machine", SOFT, width=1.5),
        line(times, [sample.own_memory / _GB for sample in kept], "this run", ACCENT),
    ]
    most = max(sample.own_memory for sample in samples) / _GB
    flows = {name: [getattr(sample, name) / _MB for sample in kept] for name in ("read", "written", "received", "sent")}
    traffic = [line(times, flow, name, SERIES[place], width=1.5) for place, (name, flow) in enumerate(flows.items())]
    busiest = max(sample.read + sample.written for sample in samples) / _MB
    worked = f"The run kept {percent(float(own) / 100, 0)} of {cores} cores busy on average."
    held = f"The run used up to {most:.2f} GB."
    moved = f"The disks were busiest with {short(busiest)} MB/s, read and written."
    return [
        _panel("cpu", "Processor", worked, cpu, "of all cores", layout | _PERCENTS),
        _panel("memory", "Memory", held, memory, "GB", layout | _FROM_ZERO),
        _panel("traffic", "Disks and network", moved, traffic, "MB/s", layout | _FROM_ZERO),
        *_gpu_charts(kept, times, layout),
    ]


def _gpu_charts(samples: Sequence[Sample], times: Sequence[float], layout: dict[str, Any]) -> list[Chart]:
    gpus = min(len(sample.gpus) for sample in samples)
    if not gpus:
        return []
    use, memory = [], []
    for place in range(gpus):
        seen = [sample.gpus[place] for sample in samples]
        color = SERIES[place % len(SERIES)]
        use.append(line(times, [gpu.utilization for gpu in seen], f"GPU {place}", color))
        memory.append(line(times, [gpu.memory_used / _GB for gpu in seen], f"GPU {place}", color))
    mean = float(np.mean([gpu.utilization for sample in samples for gpu in sample.gpus]))
    total = samples[0].gpus[0].memory_total / _GB
    top = max(gpu.memory_used for sample in samples for gpu in sample.gpus) / _GB
    named = layout | {"showlegend": True}
    used = f"A kernel ran {mean:.0f}% of the time on average."
    filled = f"Up to {top:.1f} GB of {total:.0f} GB were in use."
    return [
        _panel("gpu", "GPU use", used, use, "of the time", named | _PERCENTS),
        _panel("gpu-memory", "GPU memory", filled, memory, "GB", named | _FROM_ZERO),
    ]


def _panel(name: str, title: str, message: str, traces: list[Trace], unit: str, layout: dict[str, Any]) -> Chart:
    return chart(name, title, message, figure(traces, "seconds of the run", unit, layout), height=_HEIGHT)


def shaded(phases: Sequence[Phase], timeline: Timeline) -> dict[str, Any]:
    """Returns the part of a layout that shades every other phase and names those that are wide enough."""
    shapes, names = [], []
    for place, phase in enumerate(outermost(phases)):
        began, ended = timeline.span(phase)
        color = "var(--shade)" if place % 2 == 0 else "var(--shade-other)"
        shapes.append(_SHAPE | {"x0": began, "x1": ended, "fillcolor": color})
        if ended - began > 0.02 * len(phase.name) * timeline.seconds:
            names.append(_NAME | {"text": label(phase.name), "x": (began + ended) / 2})
    return {"shapes": shapes, "annotations": names}

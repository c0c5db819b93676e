"""What the run used of the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dogbreeds.debug.measurements import Gpu, Phase, Sample
from dogbreeds.report.chart import ACCENT, SERIES, SOFT, WARM, Chart, chart, figure, label, line, thinned
from dogbreeds.report.formats import percent, short
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section
from dogbreeds.report.sections.timeline import Timeline

_GB, _MB = 1e9, 1e6
_MOST_SAMPLES = 500
_HEIGHT = 280
_SAMPLE_COLUMNS: tuple[tuple[str, str, Callable[[Sample], float]], ...] = (
    ("CPU, all cores", "%", lambda sample: sample.cpu),
    ("CPU, this run (100 is one core)", "%", lambda sample: sample.own_cpu),
    ("Waiting for disks", "%", lambda sample: sample.io_wait),
    ("Memory", "%", lambda sample: sample.memory),
    ("Memory, this run", "GB", lambda sample: sample.own_memory / _GB),
    ("Read from disks", "MB/s", lambda sample: sample.read / _MB),
    ("Written to disks", "MB/s", lambda sample: sample.written / _MB),
    ("Received from the network", "MB/s", lambda sample: sample.received / _MB),
    ("Sent to the network", "MB/s", lambda sample: sample.sent / _MB),
)
_GPU_COLUMNS: tuple[tuple[str, str, Callable[[Gpu], float | None]], ...] = (
    ("use", "%", lambda gpu: gpu.utilization),
    ("memory", "GB", lambda gpu: gpu.memory_used / _GB),
    ("power", "W", lambda gpu: gpu.power),
    ("temperature", "°C", lambda gpu: gpu.temperature),
)


@dataclass(frozen=True)
class Usage:
    """How one resource was used over a run.

    Attributes:
        name: Of the resource.
        unit: Of the numbers.
        maximum: The most.
        p99: The 99th percentile.
        p95: The 95th.
        p50: The median.
        minimum: The least.
    """

    name: str
    unit: str
    maximum: float
    p99: float
    p95: float
    p50: float
    minimum: float


def system(run: Run) -> Section:
    """Returns the section of system usage, with the phases of the run behind its charts."""
    title = "System usage"
    samples, phases = run.record.measurements.samples, run.record.measurements.phases
    if not samples:
        return Section("system", title, missing="the machine was not sampled")
    gpus = max(len(sample.gpus) for sample in samples)
    timeline = Timeline(run.record.measurements)
    charts = over_time(samples, phases, timeline)
    return Section("system", title, {"rows": usage(samples), "gpus": gpus, "charts": charts, "samples": len(samples)})


def usage(samples: Sequence[Sample]) -> list[Usage]:
    """Returns a row for each resource; those of GPUs name the GPU, and what it does not tell is left out."""
    rows = [_usage(name, unit, [read(sample) for sample in samples]) for name, unit, read in _SAMPLE_COLUMNS]
    for place in range(max((len(sample.gpus) for sample in samples), default=0)):
        seen = [sample.gpus[place] for sample in samples if place < len(sample.gpus)]
        for name, unit, read_gpu in _GPU_COLUMNS:
            values = [value for gpu in seen if (value := read_gpu(gpu)) is not None]
            if values:
                rows.append(_usage(f"GPU {place}, {name}", unit, values))
    return rows


def _usage(name: str, unit: str, values: Sequence[float]) -> Usage:
    highest, p99, p95, p50, least = (float(value) for value in np.percentile(values, (100, 99, 95, 50, 0)))
    return Usage(name, unit, highest, p99, p95, p50, least)


def over_time(samples: Sequence[Sample], phases: Sequence[Phase], timeline: Timeline) -> list[Chart]:
    """Draws processor, memory, disks with network, and GPUs over the time of the run."""
    kept = thinned(samples, _MOST_SAMPLES)
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
    flows: tuple[tuple[str, Callable[[Sample], float]], ...] = (
        ("read", lambda sample: sample.read),
        ("written", lambda sample: sample.written),
        ("received", lambda sample: sample.received),
        ("sent", lambda sample: sample.sent),
    )
    traffic = [
        line(times, [read(sample) / _MB for sample in kept], name, SERIES[place], width=1.5)
        for place, (name, read) in enumerate(flows)
    ]
    busiest = max(sample.read + sample.written for sample in samples) / _MB
    percents = {"yaxis": {"range": [0, 102], "ticksuffix": "%"}}
    found = [
        chart(
            "cpu",
            "Processor",
            f"The run kept {percent(float(own) / 100, 0)} of {cores} cores busy on average.",
            figure(cpu, "seconds of the run", "of all cores", layout | percents),
            height=_HEIGHT,
        ),
        chart(
            "memory",
            "Memory",
            f"The run held {most:.2f} GB at most.",
            figure(memory, "seconds of the run", "GB", layout | {"yaxis": {"rangemode": "tozero"}}),
            height=_HEIGHT,
        ),
        chart(
            "traffic",
            "Disks and network",
            f"At the busiest moment {short(busiest)} MB went to and from the disks in a second.",
            figure(traffic, "seconds of the run", "MB/s", layout | {"yaxis": {"rangemode": "tozero"}}),
            height=_HEIGHT,
        ),
    ]
    return [*found, *_gpu_charts(kept, times, layout)]


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
    percents = {"yaxis": {"range": [0, 102], "ticksuffix": "%"}, "showlegend": True}
    return [
        chart(
            "gpu",
            "GPU use",
            f"A kernel ran {mean:.0f}% of the time on average.",
            figure(use, "seconds of the run", "of the time", layout | percents),
            height=_HEIGHT,
        ),
        chart(
            "gpu-memory",
            "GPU memory",
            f"{top:.1f} GB of {total:.0f} GB were in use at most.",
            figure(
                memory, "seconds of the run", "GB", layout | {"yaxis": {"rangemode": "tozero"}, "showlegend": True}
            ),
            height=_HEIGHT,
        ),
    ]


def shaded(phases: Sequence[Phase], timeline: Timeline) -> dict[str, Any]:
    """Returns the part of a layout that shades every other phase and names those that are wide enough."""
    shapes, names = [], []
    for place, phase in enumerate(phases):
        began, ended = timeline.span(phase)
        shapes.append(
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": began,
                "x1": ended,
                "y0": 0,
                "y1": 1,
                "fillcolor": "var(--shade)" if place % 2 == 0 else "var(--shade-other)",
                "line": {"width": 0},
                "layer": "below",
            }
        )
        if ended - began > 0.08 * timeline.seconds:
            names.append(
                {
                    "text": label(phase.name),
                    "x": (began + ended) / 2,
                    "y": 1,
                    "xref": "x",
                    "yref": "paper",
                    "yanchor": "top",
                    "showarrow": False,
                    "font": {"color": "var(--soft)", "size": 11},
                }
            )
    return {"shapes": shapes, "annotations": names}

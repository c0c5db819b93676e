"""What training did to the weights: sizes of gradients, weights and updates of each layer over the steps."""

from collections.abc import Mapping, Sequence

from dogbreeds.debug.record import ACTIVATION, GRADIENT, UPDATE, WEIGHT, Record, Statistics
from dogbreeds.formats import percent, short
from dogbreeds.report import chart as drawing
from dogbreeds.report.chart import ACCENT, SERIES, SOFT, Chart, Table, chart, columns, figure, line
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section

Layers = Mapping[str, Sequence[tuple[int, Statistics]]]
_KINDS = {GRADIENT: "gradients", WEIGHT: "weights", UPDATE: "updates", ACTIVATION: "activations"}
# Points of all layers together, and of each at least: a run that trains fifty layers has no page of megabytes.
_MAX_POINTS, _MIN_POINTS = 3000, 30


def tensors(run: Run) -> Section:
    kinds = {kind: run.record.tensors(kind) for kind in _KINDS}
    charts = [norms(run.record)] if run.record.scalar("gradient_norm") else []
    if kinds[UPDATE]:
        charts.append(ratios(kinds[UPDATE], kinds[WEIGHT]))
    for kind in (GRADIENT, WEIGHT, ACTIVATION):
        if kinds[kind]:
            charts += [sizes(kind, kinds[kind]), percentiles(kind, kinds[kind])]
    missing = "" if charts else "no tensors were recorded"
    return Section("tensors", "Gradients and weights", {"charts": charts}, missing)


def norms(record: Record) -> Chart:
    series = record.scalar("gradient_norm")
    message = f"The norm of the whole gradient went from {short(series[0][1])} to {short(series[-1][1])}."
    drawn = figure([line(*columns(series), "gradient norm", ACCENT)], "step", "gradient norm", {"showlegend": False})
    return chart("gradient-norm", "Gradient norm", message, drawn)


def sizes(kind: str, layers: Layers) -> Chart:
    last = {name: series[-1][1].mean_absolute for name, series in layers.items()}
    largest, smallest = max(last, key=last.__getitem__), min(last, key=last.__getitem__)
    message = f"At the end the mean size is largest in {largest} ({short(last[largest])})"
    message += f" and smallest in {smallest} ({short(last[smallest])})." if largest != smallest else "."
    pairs = {name: [(step, found.mean_absolute) for step, found in series] for name, series in layers.items()}
    rows = []
    for name, found in ((name, series[-1][1]) for name, series in layers.items()):
        numbers = [f"{number:.3g}" for number in (found.mean_absolute, found.p5, found.p50, found.p95)]
        rows.append((name, *numbers, percent(found.zeros), str(found.nan + found.infinite)))
    table = Table(("layer, last step", "mean size", "5%", "median", "95%", "zeros", "NaN or infinite"), rows)
    drawn = _by_layer(pairs, "mean absolute value")
    return chart(f"{kind}-sizes", f"Mean size of {_KINDS[kind]}, by layer", message, drawn, table=table)


def percentiles(kind: str, layers: Layers) -> Chart:
    most = max(_MIN_POINTS, _MAX_POINTS // len(layers))
    widest = max(layers, key=lambda name: layers[name][-1][1].p95 - layers[name][-1][1].p5)
    found = layers[widest][-1][1]
    ends = f"{short(found.p5)} and {short(found.p95)}"
    message = f"At the end {widest} has the widest range: 90% of its values lie between {ends}."
    views = {name: _percentile_lines(drawing.thinned(list(series), most)) for name, series in layers.items()}
    return Chart(f"{kind}-percentiles", f"Percentiles of {_KINDS[kind]}", message, views, height=280)


def _percentile_lines(series: Sequence[tuple[int, Statistics]]) -> drawing.Figure:
    steps = [step for step, _ in series]
    low = line(steps, [found.p5 for _, found in series], "5th percentile", ACCENT, width=0.5)
    high = line(steps, [found.p95 for _, found in series], "5th to 95th percentile", ACCENT, width=0.5)
    data = [
        line(steps, [found.maximum for _, found in series], "largest", SOFT, dash="dot", width=1),
        {**low, "showlegend": False},
        {**high, "fill": "tonexty", "fillcolor": drawing.BAND},
        line(steps, [found.p50 for _, found in series], "median", ACCENT),
        line(steps, [found.minimum for _, found in series], "smallest", SOFT, dash="dot", width=1),
    ]
    return figure(data, "step", "value", {"hovermode": "x unified"})


def ratios(updates: Layers, weights: Layers) -> Chart:
    """Draws the size of each layer's updates as a share of the size of its weights."""
    pairs = {}
    for name, series in updates.items():
        scale = {step: found.mean_absolute for step, found in weights.get(name, ())}
        pairs[name] = [(step, found.mean_absolute / scale[step]) for step, found in series if scale.get(step)]
    last = {name: series[-1][1] for name, series in pairs.items() if series}
    described = ", ".join(f"{name} by {100 * ratio:.2g}%" for name, ratio in list(last.items())[:3])
    message = f"At the end one step changes {described}." if last else "No layer has a size to compare with."
    return chart("update-ratios", "Updates, as a share of the weights", message, _by_layer(pairs, "update / weight"))


def _by_layer(pairs: Mapping[str, Sequence[tuple[int, float]]], what: str) -> drawing.Figure:
    """Draws a line for each layer on a logarithmic axis, without zeros."""
    data = []
    for place, (name, series) in enumerate(pairs.items()):
        positive = [(step, value) for step, value in series if value > 0]
        data.append(line(*columns(positive), name, SERIES[place % len(SERIES)], width=1.5))
    axis = drawing.log_axis(value for series in pairs.values() for _, value in series)
    return figure(data, "step", what, {"yaxis": axis})

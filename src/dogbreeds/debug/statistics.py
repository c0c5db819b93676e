"""Statistics of a tensor, cheap enough for training not to notice."""

import math

import numpy as np
import torch
from torch import Tensor

from dogbreeds.debug.record import Statistics

_QUANTILES = (0.05, 0.5, 0.95)
_RUNS, _RUN = 64, 32


@torch.no_grad()
def describe(tensor: Tensor) -> Statistics:
    """Measures a tensor of any shape; of a large one only the extremes and what is not finite are exact."""
    values = tensor.detach().flatten()
    # One transfer from the device; numpy is faster than torch for so few values.
    ordered = np.sort(sample(values).float().cpu().numpy())
    if len(ordered) < len(values):
        minimum, maximum = torch.stack(torch.aminmax(values)).tolist()
    else:
        # NaN sorts to the end.
        minimum, maximum = float(ordered[0]), float(ordered[-1])
    nan = infinite = 0
    if not (math.isfinite(minimum) and math.isfinite(maximum)):
        nan, infinite = int(values.isnan().sum()), int(values.isinf().sum())
        finite = values[values.isfinite()] if nan + infinite < len(values) else values.new_full((1,), math.nan)
        ordered = np.sort(sample(finite).float().cpu().numpy())
        minimum, maximum = float(finite.min()), float(finite.max())
    p5, p50, p95 = (float(ordered[round(share * (len(ordered) - 1))]) for share in _QUANTILES)
    wide = ordered.astype(np.float64)
    mean = float(wide.mean())
    return Statistics(
        mean=mean,
        variance=float(np.square(wide - mean).mean()),
        minimum=minimum,
        p5=p5,
        p50=p50,
        p95=p95,
        maximum=maximum,
        mean_absolute=float(np.abs(wide).mean()),
        zeros=1 - np.count_nonzero(ordered) / len(ordered),
        nan=nan,
        infinite=infinite,
    )


def sample(tensor: Tensor) -> Tensor:
    """Returns 2,048 values of a tensor, or all of a smaller one.

    They are runs of neighbours, evenly spaced: single values would each cost a line of the processor's caches.
    """
    values = tensor.flatten()
    if len(values) <= _RUNS * _RUN:
        return values
    return values[: len(values) // _RUNS * _RUNS].view(_RUNS, -1)[:, :_RUN].flatten()

"""What is kept of a tensor, measured so that training hardly notices."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dogbreeds.debug.record import Statistics

_QUANTILES = (0.05, 0.5, 0.95)
_SAMPLE = 2048


@torch.no_grad()
def describe(tensor: Tensor) -> Statistics:
    """Measures a tensor of any shape; of a large one its extremes, and the rest on a sample."""
    values = tensor.detach().flatten()
    minimum, maximum = torch.stack(torch.aminmax(values)).tolist()
    nan = infinite = 0
    if not (math.isfinite(minimum) and math.isfinite(maximum)):
        nan, infinite = int(values.isnan().sum()), int(values.isinf().sum())
        values = values[values.isfinite()] if nan + infinite < len(values) else values.new_full((1,), math.nan)
        minimum, maximum = float(values.min()), float(values.max())
    # In one piece from the device, and by numpy, which is quicker than torch with so few values.
    ordered = np.sort(sample(values).float().cpu().numpy())
    last = len(ordered) - 1
    p5, p50, p95 = (float(ordered[round(share * last)]) for share in _QUANTILES)
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
    """Returns evenly spaced values of a tensor, all of a small one: two thousand say as much as a million."""
    values = tensor.flatten()
    return values[:: -(-len(values) // _SAMPLE)]

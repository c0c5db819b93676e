"""The recorder: a Lightning callback that writes statistics of training to a file, on a schedule.

They are cheap enough for training not to notice.
"""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from dogbreeds.debug import record as kinds
from dogbreeds.debug.record import EVAL, TRAIN, Record, Row, Statistics, read_rows
from dogbreeds.files import Appender
from dogbreeds.run_directory import RECORD
from dogbreeds.schema import DebuggerConfig

# A shorter run is recorded at every step, or the rules would have too little to look at.
_SHORT_RUN = 100
# What a run of any length may keep in memory: about 150 MB.
_MAX_STATISTICS = 300_000
_ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh)
_QUANTILES = (0.05, 0.5, 0.95)
_RUNS, _RUN = 64, 32


class Recorder(pl.Callback):
    """Keeps losses and statistics of weights, gradients, updates and activations of the steps on the schedule.

    A step's update is known when the next step begins, so its row is written then. `train_every` of conf/debugger
    becomes more in a very long run, and 1 in one of fewer than 100 steps.
    """

    def __init__(self, run_dir: Path, record: Record, settings: DebuggerConfig) -> None:
        self._run_dir, self.record, self._settings = run_dir, record, settings
        self._train_every = settings.train_every
        self._writer: Appender | None = None
        self._handles: list[RemovableHandle] = []
        self._trained: dict[str, nn.Parameter] = {}
        self._pending: Row | None = None
        self._before: dict[str, Tensor] = {}
        self._activations: dict[str, Statistics] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        # A resumed run keeps what was recorded before the step that it resumes at.
        step = trainer.global_step
        earlier = (row for row in read_rows(self._run_dir) if row.step <= step)
        self.record.rows = [row for row in earlier if row.step < step or row.mode == EVAL]
        self._writer = Appender(self._run_dir / RECORD, self._settings.flush_every)
        named = pl_module.named_parameters()
        self._trained = {name: parameter for name, parameter in named if parameter.requires_grad}
        activations = [item for item in pl_module.named_modules() if isinstance(item[1], _ACTIVATIONS)]
        for name, module in activations:
            self._handles.append(module.register_forward_hook(self._listener(trainer, name)))
        of_a_step = 3 * len(self._trained) + 2 * len(activations)
        steps = min(trainer.estimated_stepping_batches, 1e12)
        fewest = math.ceil(steps * of_a_step / _MAX_STATISTICS)
        self._train_every = 1 if steps < _SHORT_RUN else max(self._train_every, fewest)

    def _listener(self, trainer: pl.Trainer, name: str) -> Any:
        def heard(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if trainer.training and self._is_due(trainer):
                self._activations[f"{kinds.ACTIVATION}/{name}"] = describe(output)
                if isinstance(module, nn.ReLU):
                    others = [axis for axis in range(output.ndim) if axis != 1]
                    self._activations[f"{kinds.ACTIVITY}/{name}"] = describe((output > 0).float().mean(dim=others))

        return heard

    def _is_due(self, trainer: pl.Trainer) -> bool:
        return trainer.global_step % self._train_every == 0

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        self._complete()
        if self._writer is None or not self._is_due(trainer):
            return
        tensors = dict(self._activations)
        norms = []
        for name, parameter in self._trained.items():
            tensors[f"{kinds.WEIGHT}/{name}"] = describe(parameter)
            self._before[name] = sample(parameter.detach()).clone()
            if parameter.grad is not None:
                tensors[f"{kinds.GRADIENT}/{name}"] = describe(parameter.grad)
                norms.append(float(torch.linalg.vector_norm(parameter.grad)))
        scalars = {
            "loss": float(pl_module.train_loss),
            "lr": float(optimizer.param_groups[0]["lr"]),
            "gradient_norm": math.hypot(*norms),
        }
        self._pending = self._row(TRAIN, trainer, scalars, tensors)

    def _complete(self) -> None:
        """Adds the updates of the last recorded step, and writes its row."""
        if self._pending is None:
            return
        updates = {
            f"{kinds.UPDATE}/{name}": describe(sample(parameter.detach()) - self._before[name])
            for name, parameter in self._trained.items()
        }
        pending, self._pending = self._pending, None
        self._before.clear()
        self._activations.clear()
        self._write(replace(pending, tensors={**pending.tensors, **updates}))

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._complete()
        if self._writer is not None and batch_idx % self._settings.eval_every == 0:
            self._write(self._row(EVAL, trainer, {"loss": float(outputs)}, {}))

    def on_fit_end(self, *args: Any, **kwargs: Any) -> None:
        self._complete()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    on_exception = on_fit_end

    def _row(self, mode: str, trainer: pl.Trainer, scalars: dict[str, float], tensors: dict[str, Statistics]) -> Row:
        return Row(mode, trainer.global_step, trainer.current_epoch + 1, round(time.time(), 3), scalars, tensors)

    def _write(self, row: Row) -> None:
        if self._writer is not None:
            self.record.rows.append(row)
            self._writer.add(row.line())


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

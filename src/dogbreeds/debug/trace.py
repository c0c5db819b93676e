"""The time of each operator in some training steps, by torch.profiler: profiler=trace."""

import json
import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.profiler import ProfilerActivity, profile, schedule

from dogbreeds.files import replacing, write_text
from dogbreeds.run_directory import OPERATORS, TRACE

log = logging.getLogger(__name__)

_MAX_OPERATORS = 30
_MICROSECONDS = 1000.0


class Tracer(pl.Callback):
    """Traces some training steps, after one that warms up."""

    def __init__(self, run_dir: Path, steps: int) -> None:
        self._run_dir, self._steps = run_dir, steps
        self._profiler: profile | None = None
        self._done = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        activities = [ProfilerActivity.CPU]
        if pl_module.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profiler = profile(
            activities=activities,
            schedule=schedule(wait=0, warmup=1, active=self._steps, repeat=1),
            on_trace_ready=self._write,
        )
        self._profiler.start()

    def on_train_batch_end(self, *_: Any) -> None:
        if self._profiler is not None:
            self._done += 1
            self._profiler.step()
            if self._done > self._steps:
                self.on_train_end()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Writes the trace of a run that was shorter or was stopped."""
        if self._profiler is not None:
            stopped, self._profiler = self._profiler, None
            stopped.stop()

    on_exception = on_train_end

    def _write(self, traced: profile) -> None:
        steps = min(self._done - 1, self._steps)
        if steps < 1:
            log.warning("profiler=trace: the run ended before a step could be traced.")
            return
        path = self._run_dir / TRACE
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            # Compressed by torch where the name says so.
            compressed = temporary.with_name(f"{temporary.name}.json.gz")
            traced.export_chrome_trace(str(compressed))
            compressed.replace(temporary)
        operators = [
            {
                "name": event.key,
                "calls": event.count,
                "cpu_ms": round(event.self_cpu_time_total / _MICROSECONDS, 4),
                "device_ms": round(getattr(event, "self_device_time_total", 0.0) / _MICROSECONDS, 4),
            }
            for event in traced.key_averages()
            if not event.key.startswith("ProfilerStep")
        ]
        operators.sort(key=lambda operator: -(operator["cpu_ms"] + operator["device_ms"]))
        content = {"steps": steps, "operators": operators[:_MAX_OPERATORS]}
        write_text(self._run_dir / OPERATORS, json.dumps(content, indent=1) + "\n")
        log.info("traced %d steps: open %s at https://ui.perfetto.dev", steps, path)

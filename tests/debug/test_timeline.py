"""The step timeline: which part of a step gets which time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dogbreeds.debug.timeline import Phases, StepTimeline

NEXT, MOVE = "[_TrainingEpochLoop].train_dataloader_next", "[Strategy]SingleDeviceStrategy.batch_to_device"
STEP, FORWARD = "[LightningModule]BreedClassifier.optimizer_step", "[Strategy]SingleDeviceStrategy.training_step"
RECORD = "[Callback]EarlyStopping{'monitor': 'val/loss', 'x': 0.5}.on_before_optimizer_step"


class Device:
    """A clock, and a GPU that works off what it was given when it is waited for."""

    def __init__(self) -> None:
        self.now = self.backlog = 0.0

    def wait(self) -> None:
        self.now, self.backlog = self.now + self.backlog, 0.0


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    monkeypatch.setattr("time.perf_counter", lambda: made.now)
    monkeypatch.setattr("torch.cuda.synchronize", made.wait)
    return made


def timeline(place: Path, kind: str, every: int) -> tuple[StepTimeline, Any]:
    made = StepTimeline(place, Phases(), gpu_every=every)
    trainer: Any = SimpleNamespace(is_global_zero=True, global_step=0, current_epoch=0, estimated_stepping_batches=100)
    made.on_train_start(trainer, SimpleNamespace(device=SimpleNamespace(type=kind)))  # type: ignore[arg-type]
    made.on_train_epoch_start(trainer, None)  # type: ignore[arg-type]
    return made, trainer


def step(made: StepTimeline, trainer: Any, device: Device, on_gpu: float = 0.0) -> None:
    """One second in each part, two in the optimizer around the others."""
    for name, inside in ((NEXT, ()), (MOVE, ()), (STEP, (FORWARD, RECORD))):
        made.profiler.start(name)
        device.now += 1
        for inner in inside:
            with made.profiler.profile(inner):
                device.now += 1
        device.backlog += on_gpu if name == STEP else 0
        device.now += len(inside) / 2
        made.profiler.stop(name)
    trainer.global_step += 1
    device.now += 0.5


def test_time_goes_to_the_innermost_part(tmp_path: Path, device: Device) -> None:
    made, trainer = timeline(tmp_path, "cpu", every=10)
    for _ in range(3):
        step(made, trainer, device)
    made.on_fit_end(trainer, None)  # type: ignore[arg-type]
    assert [times.step for times in made.steps] == [0, 1, 2]
    for times in made.steps[:2]:
        assert (times.data, times.move, times.forward, times.record) == (1, 1, 1, 1)
        assert (times.optimizer, times.logging) == (2, 0.5)


def test_the_backlog_of_steps_that_are_not_timed_belongs_to_none(tmp_path: Path, device: Device) -> None:
    made, trainer = timeline(tmp_path, "cuda", every=4)
    for _ in range(9):
        step(made, trainer, device, on_gpu=30)
    made.on_fit_end(trainer, None)  # type: ignore[arg-type]
    assert [times.step for times in made.steps] == [0, 4, 8]
    assert [times.data for times in made.steps] == [1, 1, 1]
    assert [times.optimizer for times in made.steps] == [32, 32, 32]

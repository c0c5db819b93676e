"""Callbacks of a job: snapshots at their pace, and the end of a job that was stopped."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from dogbreeds.sagemaker.job.callbacks import JobStopped, ParentWatch, SnapshotCallback
from dogbreeds.sagemaker.protocol.snapshots import Snapshots

MODULE = cast(Any, None)


class Saved:
    """Counts snapshots."""

    count = 0

    def save(self) -> None:
        self.count += 1


def test_snapshots_are_made_between_epochs_at_their_pace_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    saved = Saved()
    callback = SnapshotCallback(ParentWatch(), cast(Snapshots, saved), 60.0)
    counts = []
    for epoch, seconds in enumerate((100.0, 159.0, 160.0, 219.0, 220.0)):
        clock.now = seconds
        callback.on_train_epoch_start(cast(Any, SimpleNamespace(current_epoch=epoch, is_global_zero=True)), MODULE)
        counts.append(saved.count)
    assert counts == [0, 0, 1, 1, 2]
    callback.on_fit_end(cast(Any, SimpleNamespace(is_global_zero=False)), MODULE)
    assert saved.count == 2
    callback.on_fit_end(cast(Any, SimpleNamespace(is_global_zero=True)), MODULE)
    assert saved.count == 3


def test_a_run_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = ParentWatch()
    watch.check()
    monkeypatch.setattr("os.getppid", lambda: 1)
    with pytest.raises(JobStopped, match="The job was stopped"):
        SnapshotCallback(watch, None, 0.0).on_train_epoch_start(
            cast(Any, SimpleNamespace(current_epoch=0, is_global_zero=True)), MODULE
        )

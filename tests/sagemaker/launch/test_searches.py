"""Which job a multirun directory belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dogbreeds.errors import ConfigError
from dogbreeds.hpo.plan import Plan
from dogbreeds.run_directory import TUNING_JOB
from dogbreeds.sagemaker.launch.job_handle import TUNING, JobHandle
from dogbreeds.sagemaker.launch.searches import job_of
from dogbreeds.sagemaker.session import Account


@pytest.mark.parametrize(
    ("status", "completed", "anew"),
    [
        ("InProgress", 0, False),
        ("Completed", 1, False),
        ("Completed", 0, True),
        ("Failed", 0, True),
        ("Stopped", 1, True),
        (None, 0, True),
    ],
)
def test_a_search_without_results_to_come_begins_anew(
    status: str | None, completed: int, anew: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {f"{TUNING}Status": status, "TrainingJobStatusCounters": {"Completed": completed}}
    monkeypatch.setattr(JobHandle, "exists", lambda job: status is not None)
    monkeypatch.setattr(JobHandle, "describe", lambda job: described)
    (tmp_path / TUNING_JOB).write_text(json.dumps({"tuning_job": "job-1", "trials": 2}))

    def found(trials: int) -> JobHandle | None:
        plan: Any = SimpleNamespace(settings=SimpleNamespace(one_job=False, trials=trials))
        return job_of(cast(Account, None), cast(Plan, plan), tmp_path)

    job = found(2)
    assert job is None if anew else (job is not None and job.name == "job-1")
    if anew:
        assert found(3) is None
    else:
        with pytest.raises(ConfigError, match="job-1 has 2 trials"):
            found(3)

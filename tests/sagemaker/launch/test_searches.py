"""Which job a multirun directory belongs to, and what a search inside one job takes along of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dogbreeds.errors import ConfigError
from dogbreeds.hpo.plan import Plan
from dogbreeds.run_directory import TUNING_JOB
from dogbreeds.sagemaker.launch.job_handle import TUNING, JobHandle
from dogbreeds.sagemaker.launch.launcher import Launcher
from dogbreeds.sagemaker.launch.searches import _is_sent, job_of, search_in_one_job
from dogbreeds.sagemaker.launch.tuning import tune
from dogbreeds.sagemaker.protocol.inputs import JobInputs
from dogbreeds.sagemaker.session import Account
from tests.hpo.conftest import composed
from tests.sagemaker.conftest import Launch


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


def test_settings_of_this_machine_and_files_stay_here() -> None:
    inputs = JobInputs({}, {"data.dir": Path("photos"), "model.weights": Path("own.pth")})
    typed = ["lr=0.1,1", "hpo.trials=2", "hydra.run.dir=/", "+hydra.x=1", "sagemaker.role=a", "sagemaker=rehearsal"]
    typed += ["data.dir=b", "data=sample", "model.weights=own.pth", "cache.dir=c", "run_dir=d", "hpo.one_job=true"]
    sent = ["lr=0.1,1", "hpo.trials=2", "debugger.rules.overfit=null"]
    assert [one for one in [*typed, sent[-1]] if _is_sent(one, inputs)] == sent


@pytest.mark.parametrize(
    ("typed", "search"),
    [
        ("debugger=aws", search_in_one_job),
        ("sagemaker.instances=2", search_in_one_job),
        ("debugger=aws", tune),
        ("debugger=smdebug", tune),
    ],
)
def test_what_it_cannot_have_is_refused(
    typed: str, search: Callable[..., object], launch: Launch, sample: Path, tmp_path: Path
) -> None:
    own = typed if typed.startswith("debugger") else "trainer=cpu"
    searched = [f"data.dir={sample}", "model=squeezenet1_1", "model.weights=random", "trainer=cpu", "lr=0.1,1", own]
    settings = launch(typed).sagemaker
    launcher = Launcher(Account(lambda service: None, settings), settings, Path())
    with pytest.raises(ConfigError, match=rf"^{typed}.*Leave it out"):
        search(launcher, Plan(searched, composed, None), tmp_path)
    assert not list(tmp_path.iterdir())

"""What a search inside one job takes along of the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dogbreeds.errors import ConfigError
from dogbreeds.hpo.plan import Plan
from dogbreeds.sagemaker.launch.launcher import Launcher
from dogbreeds.sagemaker.launch.searches import _is_sent, search_in_one_job
from dogbreeds.sagemaker.launch.tuning import tune
from dogbreeds.sagemaker.protocol.inputs import JobInputs
from dogbreeds.sagemaker.session import Account
from tests.hpo.conftest import composed
from tests.sagemaker.conftest import Launch


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

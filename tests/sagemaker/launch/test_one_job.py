"""What a search inside one job takes along of the command line."""

from __future__ import annotations

from pathlib import Path

from dogbreeds.sagemaker.launch.one_job import _is_sent
from dogbreeds.sagemaker.protocol.inputs import JobInputs


def test_settings_of_this_machine_and_files_stay_here() -> None:
    inputs = JobInputs({}, {"data.dir": Path("photos"), "model.weights": Path("own.pth")})
    typed = ["lr=0.1,1", "hpo.trials=2", "hydra.run.dir=/", "+hydra.x=1", "sagemaker.role=a", "sagemaker=rehearsal"]
    typed += ["data.dir=b", "data=sample", "model.weights=own.pth", "cache.dir=c", "run_dir=d", "hpo.one_job=true"]
    sent = ["lr=0.1,1", "hpo.trials=2", "debugger.rules.overfit=null"]
    assert [one for one in [*typed, sent[-1]] if _is_sent(one, inputs)] == sent

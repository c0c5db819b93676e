"""Clients that are not ours, against `python -m local_sagemaker` with what it tells people to export."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.local_sagemaker.jobs import PATIENCE_SECONDS

pytestmark = pytest.mark.ci

# Its loss is least at a rate of 0.01; it leaves an application that Ray serves.
TRAIN = """
import argparse, math, os
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.05)
rate = parser.parse_known_args()[0].lr
print(f"loss={abs(math.log10(rate) + 2):.4f}", flush=True)
model = Path(os.environ["SM_MODEL_DIR"])
(model / "config.yaml").write_text("applications: [{name: rate, import_path: 'application:app'}]")
(model / "application.py").write_text(f'''
from ray import serve

@serve.deployment
class Rate:
    async def __call__(self, request):
        return {{"lr": {rate}}}

app = Rate.bind()
''')
"""
CORE = """
from sagemaker.core.resources import TrainingJob
from sagemaker.core.shapes import AlgorithmSpecification, OutputDataConfig, ResourceConfig, StoppingCondition
import boto3

job = TrainingJob.create(
    training_job_name="from-core",
    role_arn=boto3.client("iam").get_role(RoleName="local-sagemaker")["Role"]["Arn"],
    algorithm_specification=AlgorithmSpecification(training_image="any", training_input_mode="File"),
    hyper_parameters={"sagemaker_program": "train.py", "sagemaker_submit_directory": "s3://mine/sourcedir.tar.gz"},
    output_data_config=OutputDataConfig(s3_output_path="s3://mine/jobs"),
    resource_config=ResourceConfig(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=5),
    stopping_condition=StoppingCondition(max_runtime_in_seconds=600),
)
job.wait(poll=1)
print(TrainingJob.get("from-core").training_job_status)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables of a shell in which its lines were pasted."""
    directory = tmp_path_factory.mktemp("alone")
    service = subprocess.Popen(
        [sys.executable, "-m", "local_sagemaker", "--directory", str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert service.stdout is not None
    with service.stdout:
        said = ""
        while "Jobs can run as the role" not in said:
            line = service.stdout.readline()
            assert line, said
            said += line
        yield {**os.environ, **dict(re.findall(r"(\w+)=(\S+)", said))}
        service.send_signal(signal.SIGINT)
        assert service.wait(PATIENCE_SECONDS) == 0


def run(code: str, exported: dict[str, str], directory: Path) -> str:
    (directory / "train.py").write_text(TRAIN)
    with tarfile.open(directory / "sourcedir.tar.gz", "w:gz") as tar:
        tar.add(directory / "train.py", "train.py")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env=exported,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plain_boto3_trains_tunes_and_deploys_as_its_page_does(exported: dict[str, str], tmp_path: Path) -> None:
    section = (ROOT / "docs" / "rehearsals.md").read_text().partition("## Use it without dogbreeds")[2]
    code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    rate = re.fullmatch(r'\{"lr": ?([0-9.e-]+)\}\n', run(code, exported, tmp_path))
    assert rate is not None and 0.001 <= float(rate[1]) <= 0.1


def test_sagemaker_core_trains(exported: dict[str, str], tmp_path: Path) -> None:
    bucket = "import boto3; boto3.client('s3').create_bucket(Bucket='mine')\n"
    upload = "boto3.client('s3').upload_file('sourcedir.tar.gz', 'mine', 'sourcedir.tar.gz')\n"
    assert run(bucket + upload + CORE, exported, tmp_path).rstrip().endswith("Completed")

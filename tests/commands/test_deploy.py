"""scripts/deploy.py and predict.py endpoint=..., rehearsed with the container that really serves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.test_commands import SMALL, run, succeeded

pytestmark = pytest.mark.slow


def test_help_of_deploy_imports_nothing_heavy() -> None:
    answer = run("-X", "importtime", "scripts/deploy.py", "--help")
    assert answer.returncode == 0
    for words in (
        "variant: asynchronous, realtime, serverless",
        "sagemaker: aws, rehearsal",
        "deploy: create or update an endpoint",
    ):
        assert words in answer.stdout
    imported = {line.split("|")[-1].strip().split(".")[0] for line in answer.stderr.splitlines() if "|" in line}
    assert not imported & {"boto3", "botocore", "sagemaker", "moto", "torch", "ray", "PIL"}


@pytest.mark.ci
def test_an_endpoint_says_what_the_package_says(sample: Path, tmp_path: Path, rehearsed: str) -> None:
    trained, cache = tmp_path / "run", f"cache.dir={tmp_path / 'cache'}"
    succeeded("train.py", f"data.dir={sample}", *SMALL, cache, f"hydra.run.dir={trained}")
    there = ["sagemaker=rehearsal", rehearsed]
    said = succeeded("scripts/deploy.py", f"package={trained}", "endpoint=dogs", *there)
    assert "answer  " in said and "differs" not in said
    photos = f"images={trained / 'model' / 'examples'}"
    rows = [
        [json.loads(line) for line in succeeded("scripts/predict.py", *asked, photos, cache).splitlines()]
        for asked in (["endpoint=dogs", *there], [f"package={trained / 'model'}"])
    ]
    assert len(rows[0]) == len(rows[1]) > 0
    for theirs, ours in zip(*rows, strict=True):
        assert (theirs["path"], theirs["breed"]) == (ours["path"], ours["breed"])
        assert theirs["probability"] == pytest.approx(ours["probability"], abs=1e-3)
    assert "InService" in succeeded("scripts/deploy.py", "action=list", *there)
    assert "removed  endpoint dogs" in succeeded(
        "scripts/deploy.py", "action=delete", "endpoint=dogs", "yes=true", *there
    )
    assert "No endpoint" in succeeded("scripts/deploy.py", "action=list", *there)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scripts/deploy.py", "action=stop"], ["action=stop", "deploy, status, delete, list"]),
        (["scripts/deploy.py", "variant=batch"], ["batch", "asynchronous", "realtime", "serverless"]),
        (["scripts/deploy.py", "variant.instence=ml.m5.large"], ["'variant.instence'", "variant.instance"]),
        (["scripts/deploy.py", "endpoint=dogs"], ["package=null"]),
        (["scripts/predict.py", "images=photos"], ["Choose exactly one of package="]),
        (["scripts/predict.py", "package=m"], ["images=null"]),
        (["scripts/predict.py", "url=http://127.0.0.1:9", "images=photos"], ["no server responds there"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_wrong_inputs_of_deploy_and_predict(arguments: list[str], said: list[str]) -> None:
    answer = run(*arguments)
    assert answer.returncode == 2, answer.stderr
    for words in said:
        assert words in answer.stderr
    assert "Traceback" not in answer.stderr

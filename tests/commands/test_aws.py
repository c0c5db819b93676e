"""scripts/aws.py, rehearsed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.commands.test_commands import run, succeeded

pytestmark = pytest.mark.slow


def hinted(said: str) -> set[str]:
    """Returns the words of the only command in a text."""
    (found,) = re.findall("python (.*)", said)
    return set(shlex.split(found))


def test_an_account_is_set_up_and_torn_down(tmp_path: Path, rehearsed: str) -> None:
    there = ["scripts/aws.py", "sagemaker=rehearsal", rehearsed]
    refused = run(*there, "action=setup")
    assert refused.returncode == 2 and len(refused.stderr.strip().splitlines()) == 1
    assert "add yes=true: python scripts/aws.py action=setup sagemaker=rehearsal" in refused.stderr
    assert "next     python launch_sagemaker.py data.dir=<photos> sagemaker=rehearsal" in succeeded(
        *there, "action=setup", "yes=true"
    )
    assert "made by setup" in succeeded(*there)
    said = succeeded(*there, "action=teardown", "yes=true")
    assert "removed  role dogbreeds-sagemaker-us-east-1" in said and "removed  bucket" in said
    assert "Not all is there" in succeeded(*there)


@pytest.mark.ci
def test_hints_repeat_what_was_typed(rehearsed: str) -> None:
    """With a prefix, a bucket or days of its own a setup is another one."""
    there, own = (
        ["scripts/aws.py", "sagemaker=rehearsal", rehearsed],
        ["sagemaker.prefix=team", "sagemaker.bucket=mine"],
    )
    refused = run(*there, *own, "action=setup", "scratch_days=5", "yes=false")
    assert hinted(refused.stderr) == {*there, *own, "action=setup", "scratch_days=5", "yes=true"}
    said = succeeded(*there, *own, "action=setup", "scratch_days=5", "yes=true")
    assert hinted(said) == {"launch_sagemaker.py", *there[1:], *own, "data.dir=<photos>"}
    refused = run(*there, own[0], "action=teardown", "delete_results=true")
    assert hinted(refused.stderr) == {*there, own[0], "action=teardown", "delete_results=true", "yes=true"}
    succeeded(*there, own[0], "action=teardown", "yes=true")
    assert hinted(succeeded(*there, own[0])) == {*there, own[0], "action=setup"}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("action=make", ["action=make", "status, setup, teardown"]),
        ("scratch_days=0", ["scratch_days=0", "at least 1"]),
        ("sagemaker.bucket_owner=me", ["sagemaker.bucket_owner=me", "12 digits"]),
    ],
)
def test_wrong_settings_are_refused(typed: str, said: list[str]) -> None:
    answer = run("scripts/aws.py", typed)
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    assert all(words in answer.stderr for words in said), answer.stderr

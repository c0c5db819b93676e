from __future__ import annotations

from pathlib import Path

import pytest

from dogbreeds.sagemaker import walkthrough
from dogbreeds.sagemaker.endpoints.commands import NOTHING
from dogbreeds.sagemaker.walkthrough import Step
from tests.commands.test_commands import run

pytestmark = pytest.mark.slow


def given(monkeypatch: pytest.MonkeyPatch, *each: Step) -> None:
    monkeypatch.setattr(walkthrough, "steps", lambda *_: list(each))


def says(words: str) -> list[str]:
    return ["-c", f"print({words!r})"]


def test_it_ends_with_nothing_running(tmp_path: Path) -> None:
    steps = walkthrough.steps(["data=sample"], tmp_path / "a place, with 'signs'")
    titles = [step.title for step in steps]
    assert titles.index("deploy the best model") < titles.index("ask it") < titles.index("delete the endpoint")
    assert titles[0] == "make a bucket and a role" and titles[-2] == "remove the rest"
    assert (steps[-1].arguments[-1], steps[-1].expected) == ("action=status", NOTHING)
    # All of them rehearse in one separate directory.
    assert all("sagemaker=rehearsal" in step.arguments for step in steps)
    assert len({word for step in steps for word in step.arguments if "rehearsal_dir" in word}) == 1


@pytest.mark.ci
def test_its_commands_are_taken_from_any_place(tmp_path: Path) -> None:
    for step in walkthrough.steps([], tmp_path / "a place, with 'signs'"):
        if any(word.startswith("best_of=") for word in step.arguments):
            # Its values are looked up before anything else.
            continue
        # Hydra shows the config of one run alone.
        words = [word.replace("hydra.sweep.dir", "hydra.run.dir") for word in step.arguments if word != "-m"]
        answer = run(*words, "--cfg", "job")
        assert answer.returncode == 0, answer.stderr


def test_commands_that_succeed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, Step("greet", says("hello [there]"), "hello"), Step("part", says("good bye")))
    assert walkthrough.run([], tmp_path)
    printed = capsys.readouterr().out
    assert "hello [there]" in printed and "good bye" in printed and "not run" not in printed


@pytest.mark.parametrize(
    ("failing", "why"),
    [
        (
            Step("fail", ["-c", "import sys; print('long ago'); sys.exit('what is wrong ' + 300 * '.')"]),
            "exited with 1",
        ),
        (Step("fall silent", says("long ago ... what is wrong " + 300 * "."), "hello"), "did not print: hello"),
    ],
    ids=["failed", "silent"],
)
def test_the_first_failure_ends_it_with_all_output(
    failing: Step, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, failing, Step("part", says("good bye")))
    assert not walkthrough.run([], tmp_path)
    printed = capsys.readouterr().out
    assert why in printed and "long ago" in printed and "what is wrong " + 300 * "." in printed
    assert "good bye" not in printed

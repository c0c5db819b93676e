"""The whole story of a model on SageMaker, rehearsed command by command as a person would type them."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from dogbreeds.installation import CHECKOUT, arguments_of
from dogbreeds.overrides import override
from dogbreeds.sagemaker.endpoints.commands import NOTHING

_LAST_LINES = 3
_LONGEST_LINE = 200
_EXAMPLES = "examples"


@dataclass(frozen=True)
class Step:
    """A command of the story.

    Attributes:
        title: What it does.
        arguments: What is typed after `python`.
        expected: What it must say.
    """

    title: str
    arguments: Sequence[str]
    expected: str = ""


def story(settings: Sequence[str], directory: Path) -> list[Step]:
    """Returns the commands.

    A training job, a tuning job, the winner under AWS's debugger and its report; then the winner as an endpoint, that
    is asked about the example photos of its package and removed. At the end nothing may be left running.
    """
    # A rehearsal of its own: it shall find nothing of others running, and end nothing of theirs.
    place = ["sagemaker=rehearsal", _at("sagemaker.rehearsal_dir", directory / "rehearsal")]
    launch = [*arguments_of("launch"), *settings, *place]
    tuned, best = directory / "tuned", directory / "best"
    deploy, endpoint = [*arguments_of("deploy"), *place], "endpoint=dogs"
    return [
        Step("train", [*launch, _at("hydra.run.dir", directory / "trained")]),
        Step("tune", [*launch, "-m", "hpo=bayes", _at("hydra.sweep.dir", tuned)]),
        Step(
            "train the winner, with AWS's debugger",
            [
                *arguments_of("launch"),
                *place,
                _at("best_of", tuned),
                "debugger=aws",
                _at("hydra.run.dir", best),
            ],
        ),
        Step("report", [*arguments_of("report"), _at("run", best)]),
        Step("deploy the winner", [*deploy, endpoint, _at("package", best)], "answer "),
        Step(
            "ask it",
            [*arguments_of("predict"), *place, endpoint, _at("images", best / "model" / _EXAMPLES)],
            '"probability"',
        ),
        Step("see what is running", [*deploy, "action=list"], "InService"),
        Step("remove the endpoint", [*deploy, endpoint, "action=delete", "yes=true"], "removed  endpoint dogs"),
        Step("see that nothing is", [*deploy, "action=list"], NOTHING),
    ]


def _at(name: str, place: Path) -> str:
    # As a shell would hand it on.
    (argument,) = shlex.split(override(name, place))
    return argument


def play(settings: Sequence[str], directory: Path) -> bool:
    """Plays the story and prints what happened; says whether all went well.

    Args:
        settings: Overrides of all commands.
        directory: Where the runs are fetched to, and what the rehearsal holds.
    """
    # A story of its own each time: a search is not begun where another one is.
    directory, console = directory.resolve() / time.strftime("%Y-%m-%d-%H-%M-%S"), Console()
    table = Table("step", "seconds", Column("what came of it", overflow="fold"), title="A rehearsal")
    for step in story(settings, directory):
        console.print(escape(f"$ python {shlex.join(step.arguments)}"), style="bold", highlight=False)
        began = time.monotonic()
        ended = subprocess.run(
            [sys.executable, *step.arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False
        )
        lines = [_short(line) for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
        table.add_row(step.title, f"{time.monotonic() - began:.0f}", escape("\n".join(lines[-_LAST_LINES:])))
        problem = _problem(step, ended)
        if problem is not None:
            table.add_row("", "", f"[red]{escape(problem)}; the rest was not played[/red]")
            console.print(table)
            # All of it: why a command failed may stand anywhere.
            console.print(ended.stdout, ended.stderr, sep="\n", markup=False, highlight=False, soft_wrap=True)
            return False
    console.print(table)
    return True


def _short(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} ..."


def _problem(step: Step, ended: subprocess.CompletedProcess[str]) -> str | None:
    if ended.returncode:
        return f"ended with {ended.returncode}"
    return None if step.expected in ended.stdout else f"did not say: {step.expected}"

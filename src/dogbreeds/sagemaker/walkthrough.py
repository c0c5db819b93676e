"""Rehearses all commands for a model on SageMaker, one after the other, as a person would type them."""

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

from dogbreeds.files import yaml_beside
from dogbreeds.installation import CHECKOUT, arguments_of
from dogbreeds.overrides import override
from local_sagemaker import stop

_LAST_LINES = 3
_MAX_LINE = 200


@dataclass(frozen=True)
class Step:
    """One command: the words after `python`, and a text that it must print."""

    title: str
    arguments: Sequence[str]
    expected: str = ""


def steps(settings: Sequence[str], directory: Path) -> list[Step]:
    """Returns the commands of walkthrough.yaml; the settings are those of the search."""
    # A separate rehearsal, so that no others are touched.
    rehearsal = ["sagemaker=rehearsal", _at("sagemaker.rehearsal_dir", directory / "rehearsal")]
    found = []
    for one in yaml_beside(__file__, "walkthrough.yaml"):
        places = [_at(name, directory / place) for name, place in one.get("places", {}).items()]
        own = settings if "-m" in one["typed"] else ()
        arguments = [*arguments_of(one["command"]), *own, *rehearsal, *one["typed"], *places]
        found.append(Step(one["title"], arguments, one.get("expected", "")))
    return found


def _at(name: str, place: Path) -> str:
    # As a shell would pass it.
    (argument,) = shlex.split(override(name, place))
    return argument


def run(settings: Sequence[str], directory: Path) -> bool:
    """Runs the commands in a rehearsal of their own and prints the results; says whether all succeeded.

    The settings are for all commands.
    """
    # A new directory each time: a search does not start where another one is.
    directory, console = directory.resolve() / time.strftime("%Y-%m-%d-%H-%M-%S"), Console()
    table = Table("step", "seconds", Column("result", overflow="fold"), title="A rehearsal")
    try:
        return _played(steps(settings, directory), table, console)
    finally:
        stop(directory / "rehearsal")


def _played(planned: Sequence[Step], table: Table, console: Console) -> bool:
    for step in planned:
        console.print(escape(f"$ python {shlex.join(step.arguments)}"), style="bold", highlight=False)
        began, typed = time.monotonic(), [sys.executable, *step.arguments]
        ended = subprocess.run(typed, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        lines = [line[:_MAX_LINE] for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
        table.add_row(step.title, f"{time.monotonic() - began:.0f}", escape("\n".join(lines[-_LAST_LINES:])))
        problem = "" if step.expected in ended.stdout else f"did not print: {step.expected}"
        if problem := f"exited with {ended.returncode}" if ended.returncode else problem:
            table.add_row("", "", f"[red]{escape(problem)}; the rest was not run[/red]")
            console.print(table)
            # Everything: the reason may be anywhere.
            console.print(ended.stdout, ended.stderr, sep="\n", markup=False, highlight=False, soft_wrap=True)
            return False
    console.print(table)
    return True

"""The notebooks of docs/: they run from top to bottom, and are committed as they ran."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from docs.notebooks import DOCS, cleaned, executed

NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))
# Of this machine, a user's or a drive's; addresses of this machine stand for others'.
OF_A_MACHINE = re.compile(
    r"(?<![\w.*])/(?:home|root|tmp|work|Users|var|private|opt|mnt)/|[A-Z]:\\\\|127\.0\.0\.1|localhost"
)
MAX_BYTES = 1_500_000


def printed(notebook: NotebookNode) -> str:
    """Returns all that the cells of a notebook printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_committed_outputs_are_those_of_one_clean_run(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < MAX_BYTES
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert text == nbformat.writes(cleaned(notebook, Path("/nowhere"))) + "\n", "make notebooks"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "make notebooks"
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not re.search(OF_A_MACHINE, printed(notebook))
    assert "Traceback" not in printed(notebook)


def test_the_outputs_show_what_the_story_is_about() -> None:
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        silent = [cell.source for cell in notebook.cells if cell.cell_type == "code" and not cell.outputs]
        # Those that name a place or write a file.
        assert len(silent) <= 3, silent
        shown = [
            name for cell in notebook.cells for output in cell.get("outputs", []) for name in output.get("data", {})
        ]
        assert {"image/png", "image/jpeg"} & set(shown)


@pytest.mark.ci
def test_the_four_cells_run(tmp_path: Path) -> None:
    notebook = executed(DOCS / "quickstart.ipynb", tmp_path)
    assert re.search(r"\d+% of the test photos are right", printed(notebook))
    assert re.search(r"^[A-Z]\w+ \w+ \(\d+%\)$", printed(notebook), re.MULTILINE)


@pytest.mark.ci
def test_the_whole_story_runs_and_leaves_nothing_behind(tmp_path: Path) -> None:
    notebook = executed(DOCS / "walkthrough.ipynb", tmp_path)
    said = printed(notebook)
    (answered,) = tmp_path.glob("outputs/*/*/answers.jsonl")
    work, answers = answered.parent, [json.loads(line) for line in answered.read_text().splitlines()]
    assert len(answers) == 6 and all(answer["breed"] for answer in answers)
    # The package in Python says what the endpoint said.
    assert "\n".join(f"{answer['breed']} ({answer['probability']:.1%})" for answer in answers) in said
    for name in ("first", "best"):
        assert {"report.html", "rules.json", "model"} <= {path.name for path in (work / name).iterdir()}
    for name in ("search", "backbones", "tuned"):
        assert (work / name / "leaderboard.csv").is_file()
    assert "removed  endpoint dogs" in said and "No endpoint of this project is running." in said
    assert "Stopped the rehearsal" in said

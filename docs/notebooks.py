"""Runs the notebooks of docs/ from top to bottom, and writes them back with their outputs: `make notebooks`.

Each runs in a directory of its own with nothing in it but the commands, so that it shows what a new checkout would.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from dogbreeds.files import write_text
from local_sagemaker import stop

DOCS = Path(__file__).parent
_COMMANDS = ("train.py", "launch_sagemaker.py", "scripts")
_SECONDS_PER_CELL = 600
# What a rerun would change and nobody reads: progress, and what libraries say about themselves.
_NOISE = re.compile(
    r"^(?:features \d+/\d+, .* left|Ignoring unnecessary instance type: None\.|.* A new study created in memory .*)\n",
    re.MULTILINE,
)


def executed(path: Path, directory: Path) -> NotebookNode:
    """Returns a notebook with the outputs of a run in an empty directory, which keeps what the run wrote.

    Raises:
        CellExecutionError: A cell failed.
    """
    for name in _COMMANDS:
        (directory / name).symlink_to(DOCS.parent / name)
    own = {f"XDG_{name}_HOME": str(directory / ".home" / name) for name in ("CACHE", "CONFIG", "DATA")}
    own |= {"IPYTHONDIR": str(directory / ".home"), "TTY_COMPATIBLE": "0", "NO_COLOR": "1"}
    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=_SECONDS_PER_CELL,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(directory)}},
    )
    try:
        client.execute(env={**os.environ, **own, "PATH": commands})
    finally:
        # Of a notebook that failed before it did so itself.
        for rehearsal in directory.glob("outputs/*/*/rehearsal"):
            stop(rehearsal)
    return notebook


def cleaned(notebook: NotebookNode, directory: Path) -> NotebookNode:
    """Returns what is committed of a run: no paths of this machine, no progress, no times, no versions."""
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs, directory)
    return notebook


def _joined(outputs: list[NotebookNode], directory: Path) -> list[NotebookNode]:
    """Returns outputs whose printed parts are as a file would have them, however the kernel sent them."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if output.output_type == "stream" and joined and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
            _lighten(output.get("data", {}))
    for output in joined:
        if output.output_type == "stream":
            output.text = _NOISE.sub("", output.text.replace("\r\n", "\n").replace(f"{directory}/", ""))
    return [output for output in joined if output.output_type != "stream" or output.text]


def _lighten(data: dict[str, str]) -> None:
    """Keeps one picture of several, with 256 colours if it is a PNG: a third of the size, and hardly another look."""
    if "image/jpeg" in data:
        data.pop("image/png", None)
    if "image/png" in data:
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
        if picture.mode != "P":
            file = io.BytesIO()
            picture.convert("RGB").quantize(256).save(file, "PNG", optimize=True)
            data["image/png"] = base64.b64encode(file.getvalue()).decode()


def main() -> None:
    for path in sorted(DOCS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory(prefix="dogbreeds-") as directory:
            place = Path(directory).resolve()
            notebook = cleaned(executed(path, place), place)
        write_text(path, nbformat.writes(notebook) + "\n")


if __name__ == "__main__":
    main()

"""Finds the file of weights that `model.weights` names, without heavy imports."""

import re
from pathlib import Path

from dogbreeds.errors import WeightsError

#: Of the names of files with weights.
ENDINGS = (".pth", ".safetensors")


def weights_file(place: Path, backbone: str) -> Path:
    """Returns a file of weights: the path itself, or the file in a folder that is called after the backbone.

    `<backbone>.pth` or `.safetensors` wins over files whose name goes on after the backbone's.

    Raises:
        WeightsError: The folder has no such file, or several.
    """
    if not place.is_dir():
        return place
    files = sorted(path for path in place.iterdir() if path.suffix in ENDINGS)
    # A name of timm may have the tag of its weights.
    plain = backbone.partition(".")[0]
    for name in (backbone, plain):
        exact = [path for path in files if path.stem == name]
        if len(exact) == 1:
            return exact[0]
    fitting = [path for path in files if re.match(rf"{re.escape(plain)}(?![A-Za-z0-9])", path.name)]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(path.name for path in fitting or files) or "no .pth or .safetensors"
    count = "several files" if fitting else "no file"
    raise WeightsError(f"model.weights={place}: {count} called after {plain} ({listed}). Give the file itself.")

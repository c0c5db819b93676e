"""A package as one graph for other runtimes: uint8 photos in, calibrated probabilities out.

What is written is loaded back by its own runtime and compared with the package on real photos, and only what
agrees is left behind.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dogbreeds.data.images import UnreadableImageError
from dogbreeds.data.layout import display_name
from dogbreeds.errors import ConfigError, DataError, UserError
from dogbreeds.features.engines.reference import as_stored
from dogbreeds.files import check_place
from dogbreeds.model.network import Network
from dogbreeds.package.export_formats import FORMATS, INPUT, OUTPUT, Array, Run
from dogbreeds.package.package import Description, load_package
from dogbreeds.package.predictor import Handler
from dogbreeds.version import __version__

#: How far a probability may be from the package's own, in fp32. Trunks that feed a trained tail round their
#: activations to half precision, which another runtime may do one way or the other.
TOLERANCE = 1e-3
_BATCH = 32


@dataclass(frozen=True)
class Comparison:
    """What an exported graph and its package say of the same photos.

    Attributes:
        photos: How many there were.
        difference: The largest between two probabilities.
        disagreeing: Photos of which the most probable class differs.
    """

    photos: int
    difference: float
    disagreeing: int

    @property
    def good(self) -> bool:
        """Whether the graph may stand for the package."""
        return self.difference <= TOLERANCE and not self.disagreeing


class ExportGraph(nn.Module):
    """A whole package as one module."""

    def __init__(self, network: Network, temperature: float) -> None:
        """Takes the parts of a network, in evaluation mode, and what its logits are divided by."""
        super().__init__()
        self.trunk, self.tail, self.head = network.trunk, network.tail, network.head
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        """Returns probabilities (N, classes) for uint8 RGB images (N, 3, crop, crop)."""
        # Engines hand activations over in half precision, so the trained tail has never seen others.
        features = as_stored(self.trunk(images)).float()
        probabilities: Tensor = (self.head(self.tail(features)) / self.temperature).softmax(dim=1)
        return probabilities


def check_out(form: str, out: str) -> Path:
    """Returns where a graph is to be written, before anything is loaded.

    Raises:
        ConfigError: There is no such format, its packages are missing, or the place cannot be.
    """
    if form not in FORMATS:
        raise ConfigError(f"format={form}: must be one of {', '.join(FORMATS)}.")
    chosen, path = FORMATS[form], Path(out).expanduser()
    if path.suffix != chosen.ending:
        raise ConfigError(f"out={out}: the name of format={form} ends in {chosen.ending}.")
    check_place(path, f"out={out}")
    missing = [package for package in chosen.needs if find_spec(package) is None]
    if missing:
        raise ConfigError(f"format={form} needs {', '.join(missing)}: pip install 'dogbreeds[export]'.")
    return path


def export(package: Path, form: str, out: Path, photos: Sequence[Path]) -> Comparison:
    """Writes a package as one graph, and compares the two.

    Args:
        package: Its directory.
        form: One of `FORMATS`.
        out: The file, as `check_out` returns it; OpenVINO's weights go beside it, as .bin.
        photos: What they are compared on.

    Returns:
        How they agree.

    Raises:
        PackageError: There is no package, or it is damaged.
        DataError: A photo cannot be read.
        UserError: They do not agree; nothing is left behind then, and what was there before stays.
    """
    description, network = load_package(package)
    images = _read(photos, description)
    graph = ExportGraph(network, description.temperature).eval()
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}-") as directory:
        written = Path(directory) / out.name
        with torch.no_grad(), warnings.catch_warnings():
            # The exporters of torch warn of their own insides, and of what comes after them.
            warnings.simplefilter("ignore")
            FORMATS[form].write(graph, description.transform.crop, _about(description), written)
            run = FORMATS[form].load(written)
            found = compare(run, _expected(description, network, images), images)
        if not found.good:
            raise UserError(
                f"The {form} of {package} is not left behind, because it does not say what the package says: of "
                f"{found.photos} photos {found.disagreeing} get another breed, and probabilities differ by up to "
                f"{found.difference:.2g}. Try another format ({', '.join(FORMATS)})."
            )
        # The file that names the others comes last.
        for path in sorted(written.parent.iterdir(), key=lambda path: path == written):
            path.replace(out.parent / path.name)
    return found


def usage(form: str, out: Path) -> str:
    """Returns lines of Python that ask an exported graph."""
    return FORMATS[form].usage.format(name=out.name)


def compare(run: Run, expected: Array, images: Tensor) -> Comparison:
    """Compares what a graph says of images (N, 3, crop, crop) with probabilities (N, classes).

    The first image is asked alone as well, since a graph may have learned the size of a batch by heart.
    """
    batches = [images[:1], *images.split(_BATCH)]
    found = np.concatenate([run(batch.numpy()) for batch in batches])
    wanted = np.concatenate([expected[:1], expected])
    differences = np.abs(found - wanted)
    # A NaN is as far off as can be.
    difference = float(np.nan_to_num(differences, nan=1.0).max())
    disagreeing = int((found[1:].argmax(axis=1) != expected.argmax(axis=1)).sum())
    return Comparison(len(images), difference, disagreeing)


def _expected(description: Description, network: Network, images: Tensor) -> Array:
    plain = replace(description, engine="torch", precision="fp32")
    handler = Handler(plain, network, torch.device("cpu"))
    probabilities = (handler.logits(images).double() / description.temperature).softmax(dim=1)
    return probabilities.float().numpy()


def _read(photos: Sequence[Path], description: Description) -> Tensor:
    images = []
    for path in photos:
        try:
            images.append(description.transform.read(path.read_bytes()))
        except (OSError, UnreadableImageError) as error:
            raise DataError(f"{path} cannot be compared on: {error}.") from error
    return torch.stack(images)


def _about(description: Description) -> dict[str, str]:
    """What a file says of itself; the normalisation is left out, since the graph does it."""
    transform = description.transform
    return {
        "classes": json.dumps([display_name(name) for name in description.classes], ensure_ascii=False),
        "transform": json.dumps(
            {"resize": transform.resize, "crop": transform.crop, "interpolation": transform.interpolation}
        ),
        "input": f"{INPUT}: uint8 RGB (N, 3, {transform.crop}, {transform.crop})",
        "output": f"{OUTPUT}: float32 (N, {len(description.classes)}), calibrated",
        "backbone": description.backbone,
        "dogbreeds": __version__,
    }

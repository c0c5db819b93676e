"""Exports a package as one graph for other runtimes: uint8 photos in, calibrated probabilities out.

The file is loaded by its own runtime and compared with the package on real photos; it is kept only if both agree.
"""

import json
import logging
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dogbreeds.data.images import UnreadableImageError
from dogbreeds.data.names import shown_names
from dogbreeds.errors import ConfigError, DataError, UserError
from dogbreeds.features.engines.reference import as_stored
from dogbreeds.files import check_place, writing
from dogbreeds.installation import require
from dogbreeds.model.network import Network
from dogbreeds.package.export_formats import FORMATS, INPUT, OUTPUT, Array, Run
from dogbreeds.package.package import Description, load_package
from dogbreeds.package.predictor import Predictor
from dogbreeds.version import __version__

log = logging.getLogger(__name__)

#: Largest difference to the package's own probabilities, in fp32. Activations for a trained tail are rounded to half
#: precision, and runtimes round ties differently.
TOLERANCE = 1e-3
_BATCH = 32


@dataclass(frozen=True)
class Comparison:
    """The largest difference of two probabilities of a graph and its package, and how many classes differ."""

    photos: int
    difference: float
    disagreeing: int

    @property
    def good(self) -> bool:
        return self.difference <= TOLERANCE and not self.disagreeing


class ExportGraph(nn.Module):
    """A whole package as one module."""

    def __init__(self, network: Network, temperature: float) -> None:
        super().__init__()
        self.trunk, self.tail, self.head = network.trunk, network.tail, network.head
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        """Returns probabilities (N, classes) for uint8 RGB images (N, 3, crop, crop)."""
        # Engines return activations in half precision, and the tail was trained on those.
        features = as_stored(self.trunk(images)).float()
        probabilities: Tensor = (self.head(self.tail(features)) / self.temperature).softmax(dim=1)
        return probabilities


def check_out(form: str, out: str) -> Path:
    """Returns the path of the exported file, before anything is loaded."""
    chosen, path = FORMATS[form], Path(out).expanduser()
    if path.suffix != chosen.ending:
        raise ConfigError(f"out={out}: the file name must end in {chosen.ending} for format={form}.")
    check_place(path, f"out={out}")
    require(f"format={form}", "export", *chosen.needs)
    return path


def export(package: Path, form: str, out: Path, photos: Sequence[Path]) -> Comparison:
    """Writes a package as one graph, and compares the two; OpenVINO's weights go beside the file, as .bin.

    Raises:
        UserError: They do not agree; nothing is written then, and an older file stays.
    """
    description, network = load_package(package)
    images = _read(photos, description)
    if description.precision == "int8":
        log.warning("The %s export computes in fp32: the int8 of %s is for its own engine.", form, package)
    graph = ExportGraph(network, description.temperature).eval()
    # The inner one looks at the disk before the folder goes, which makes room.
    with writing(out), tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}-") as directory, writing(out):
        written = Path(directory) / out.name
        with torch.no_grad(), warnings.catch_warnings():
            # The exporters warn about their own internals and about their successors.
            warnings.simplefilter("ignore")
            FORMATS[form].write(graph, description.transform.crop, _about(description), written)
            run = FORMATS[form].load(written)
            found = compare(run, _expected(description, network, images), images)
        if not found.good:
            raise UserError(
                f"The {form} export of {package} was discarded because it disagrees with the package: "
                f"{found.disagreeing} of {found.photos} photos get another breed, and probabilities differ by up to "
                f"{found.difference:.2g}. Try another format ({', '.join(FORMATS)})."
            )
        # The file that names the others comes last.
        for path in sorted(written.parent.iterdir(), key=lambda path: path == written):
            path.replace(out.parent / path.name)
    return found


def usage(form: str, out: Path) -> str:
    text = (Path(__file__).with_name("usage") / f"{form}.txt").read_text(encoding="utf-8")
    return text.rstrip().format(name=out.name)


def compare(run: Run, expected: Array, images: Tensor) -> Comparison:
    """Compares the output of a graph for images (N, 3, crop, crop) with the expected probabilities (N, classes).

    The first image also runs alone, because a graph may have a fixed batch size.
    """
    batches = [images[:1], *images.split(_BATCH)]
    found = np.concatenate([run(batch.numpy()) for batch in batches])
    wanted = np.concatenate([expected[:1], expected])
    differences = np.abs(found - wanted)
    # A NaN counts as the largest possible difference.
    difference = float(np.nan_to_num(differences, nan=1.0).max())
    disagreeing = int((found[1:].argmax(axis=1) != expected.argmax(axis=1)).sum())
    return Comparison(len(images), difference, disagreeing)


def _expected(description: Description, network: Network, images: Tensor) -> Array:
    plain = replace(description, engine="torch", precision="fp32")
    predictor = Predictor(plain, network, torch.device("cpu"))
    probabilities = (predictor.logits(images).double() / description.temperature).softmax(dim=1)
    return probabilities.float().numpy()


def _read(photos: Sequence[Path], description: Description) -> Tensor:
    images = []
    for path in photos:
        try:
            images.append(description.transform.read(path.read_bytes()))
        except (OSError, UnreadableImageError) as error:
            raise DataError(f"{path} cannot be read, so nothing can be compared on it: {error}.") from error
    return torch.stack(images)


def _about(description: Description) -> dict[str, str]:
    """The metadata of a file; the graph itself does the normalisation."""
    transform = description.transform
    return {
        "classes": json.dumps(shown_names(description.classes), ensure_ascii=False),
        "transform": json.dumps(
            {"resize": transform.resize, "crop": transform.crop, "interpolation": transform.interpolation}
        ),
        "input": f"{INPUT}: uint8 RGB (N, 3, {transform.crop}, {transform.crop})",
        "output": f"{OUTPUT}: float32 (N, {len(description.classes)}), calibrated",
        "backbone": description.backbone,
        "dogbreeds": __version__,
    }

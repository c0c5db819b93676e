"""The photos to look at: the most confident mistakes, and the least certain predictions."""

import base64
import io
import os.path
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Without its plugin at hand, saving as WebP would import those of all formats.
from PIL import Image, WebPImagePlugin  # noqa: F401

from dogbreeds.data.images import UnreadableImageError, decode
from dogbreeds.report.formats import percent
from dogbreeds.report.run import Prediction, Run
from dogbreeds.report.sections import Section

_MAX_PHOTOS = 12
_SIDE = 168
_QUALITY = 72


@dataclass(frozen=True)
class Shown:
    """A prediction with the display names of its breeds, and the photo as a data URI; empty where it is not there."""

    prediction: Prediction
    breed: str
    answer: str
    second: str
    image: str

    @property
    def file(self) -> str:
        return Path(self.prediction.path).name

    @property
    def description(self) -> str:
        """What a screen reader says instead of the photo."""
        said = f"classified as {self.answer} with {percent(self.prediction.probability, 0)}"
        return f"Photo of {self.breed}, {'correctly ' if self.prediction.correct else ''}{said}"


def photos(run: Run, *, live: bool) -> Section:
    """Returns the section of test photos worth a look; a run that has not ended has none."""
    title = "Photos to look at"
    tested = [one for one in run.predictions if one.split == "test"]
    if live or not tested:
        return Section("photos", title, missing="the test photos are classified at the end of a run")
    root = Path(run.config["data"]["dir"])
    wrong, unsure = ([_shown(run, one, root) for one in group] for group in (most_wrong(tested), least_sure(tested)))
    there = [bool(one.image) for one in wrong + unsure]
    content = {"wrong": wrong, "unsure": unsure, "lost": there.count(False), "any": any(there), "root": root}
    return Section("photos", title, content)


def most_wrong(predictions: Sequence[Prediction]) -> list[Prediction]:
    wrong = [one for one in predictions if not one.correct]
    return sorted(wrong, key=lambda one: -one.probability)[:_MAX_PHOTOS]


def least_sure(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Returns predictions, those first whose two most probable breeds are closest."""
    return sorted(predictions, key=lambda one: one.probability - one.second_probability)[:_MAX_PHOTOS]


def _shown(run: Run, one: Prediction, root: Path) -> Shown:
    image = thumbnail_below(root, one.path)
    return Shown(one, run.name(one.breed), run.name(one.answer), run.name(one.second), image)


def thumbnail_below(root: Path, relative: str) -> str:
    """Returns the thumbnail of a photo below a folder; empty if it is elsewhere.

    The run directory may be somebody else's: what its files name elsewhere must not get into the page.
    """
    path, folder = (os.path.normpath(Path.cwd() / place) for place in (root / relative, root))
    return thumbnail(Path(path)) if Path(path).is_relative_to(folder) else ""


def thumbnail(path: Path) -> str:
    """Returns the middle of a photo, upright and small, as a data URI; empty if it is not there or not an image."""
    try:
        image = decode(path.read_bytes(), enough=_SIDE)
    except (OSError, UnreadableImageError):
        return ""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    middle = (left, top, left + side, top + side)
    square = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, middle, reducing_gap=2)
    buffer = io.BytesIO()
    square.save(buffer, "WEBP", quality=_QUALITY, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"

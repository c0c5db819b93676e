"""The photos to look at: the most confident mistakes, and the answers that were least sure."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dogbreeds.data.images import UnreadableImageError, decode
from dogbreeds.report.formats import percent
from dogbreeds.report.run import Prediction, Run
from dogbreeds.report.sections import Section

_SHOWN = 12
_SIDE = 168
_QUALITY = 72


@dataclass(frozen=True)
class Shown:
    """A photo with what was said of it.

    Attributes:
        prediction: What the model says.
        breed: Name of the right breed.
        answer: Name of the answer.
        second: Name of the answer that came next.
        image: The photo as a data URI; empty where it is not there.
    """

    prediction: Prediction
    breed: str
    answer: str
    second: str
    image: str

    @property
    def file(self) -> str:
        """The photo's file name."""
        return Path(self.prediction.path).name

    @property
    def description(self) -> str:
        """What a screen reader says in place of the photo."""
        said = f"answered as {self.answer} with {percent(self.prediction.probability, 0)}"
        return f"Photo of {self.breed}, {'rightly ' if self.prediction.right else ''}{said}"


def photos(run: Run, *, live: bool) -> Section:
    """Returns the section of test photos worth a look; while a run goes on there is none."""
    title = "Photos to look at"
    tested = [one for one in run.predictions if one.split == "test"]
    if live or not tested:
        return Section("photos", title, missing="the answers to single photos are written at the end of a run")
    root = Path(run.config["data"]["dir"])
    groups = {
        "wrong": [_shown(run, one, root) for one in most_wrong(tested)],
        "unsure": [_shown(run, one, root) for one in least_sure(tested)],
    }
    lost = [one for group in groups.values() for one in group if not one.image]
    return Section(
        "photos",
        title,
        {**groups, "lost": len(lost), "any": len(lost) < sum(map(len, groups.values())), "root": root},
    )


def most_wrong(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Returns wrong answers, the most confident first."""
    wrong = [one for one in predictions if not one.right]
    return sorted(wrong, key=lambda one: -one.probability)[:_SHOWN]


def least_sure(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Returns answers, those first whose best and second best breed are closest."""
    return sorted(predictions, key=lambda one: one.probability - one.second_probability)[:_SHOWN]


def _shown(run: Run, one: Prediction, root: Path) -> Shown:
    return Shown(one, run.name(one.breed), run.name(one.answer), run.name(one.second), thumbnail(root / one.path))


def thumbnail(path: Path) -> str:
    """Returns the middle of a photo, upright and small, as a data URI; nothing where there is no photo to be read."""
    try:
        image = decode(path.read_bytes(), enough=_SIDE)
    except (OSError, UnreadableImageError):
        return ""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.resize(
        (_SIDE, _SIDE), Image.Resampling.BILINEAR, (left, top, left + side, top + side), reducing_gap=2
    )
    buffer = io.BytesIO()
    square.save(buffer, "WEBP", quality=_QUALITY, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"

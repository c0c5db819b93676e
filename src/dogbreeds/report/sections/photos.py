"""The photos to look at: the most confident mistakes, and the least certain predictions."""

import base64
import io
import logging
import os.path
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

# Without its plugin at hand, saving as WebP would import those of all formats.
from PIL import Image, WebPImagePlugin  # noqa: F401

from dogbreeds.data.images import UnreadableImageError, decode
from dogbreeds.errors import PackageError, UserError
from dogbreeds.report.run import Prediction, Run
from dogbreeds.report.sections import Section

log = logging.getLogger(__name__)

#: Given metrics.json, returns what draws where the model looked in a photo for a class, or raises a UserError.
Explain = Callable[[Mapping[str, Any]], Callable[[Path, int], bytes]]
_MAX_PHOTOS = 12
_SIDE = 168
_QUALITY = 72


def photos(run: Run, *, live: bool, explain: Explain | None = None) -> Section:
    """Returns the section of test photos worth a look; a run that has not ended has none."""
    title = "Photos to look at"
    tested = [one for one in run.predictions if one.split == "test"]
    if live or not tested:
        return Section("photos", title, missing="the test photos are classified at the end of a run")
    root = Path(run.config["data"]["dir"])
    wrong, unsure = most_wrong(tested), least_sure(tested)
    images = {one.path: thumbnail_below(root, one.path) for one in wrong + unsure}
    lost = sum(not images[one.path] for one in wrong + unsure)
    content = {"wrong": wrong, "unsure": unsure, "images": images, "lost": lost, "any": any(images.values())}
    shown = [one for one in wrong if images[one.path] and run.metrics.get("pretrained")]
    looked = _looked(run, root, shown, explain) if explain and shown else {}
    return Section("photos", title, {**content, "root": root, "looked": looked})


def _looked(run: Run, root: Path, wrong: Sequence[Prediction], explain: Explain) -> dict[str, str]:
    """Returns pictures of where the model looked, by the paths of photos; none without a package that draws them."""
    try:
        draw = explain(run.metrics)
        return {one.path: thumbnail(partial(draw, root / one.path, run.classes.index(one.answer))) for one in wrong}
    except UserError as error:
        # That a network has no maps is no trouble.
        if isinstance(error, PackageError):
            log.warning("The report does not show where the model looked: %s", error)
        return {}


def most_wrong(predictions: Sequence[Prediction]) -> list[Prediction]:
    wrong = [one for one in predictions if not one.correct]
    return sorted(wrong, key=lambda one: -one.probability)[:_MAX_PHOTOS]


def least_sure(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Returns predictions, those first whose two most probable breeds are closest."""
    return sorted(predictions, key=lambda one: one.probability - one.second_probability)[:_MAX_PHOTOS]


def thumbnail_below(root: Path, relative: str) -> str:
    """Returns the thumbnail of a photo below a folder; empty if it is elsewhere.

    The run directory may be somebody else's: what its files name elsewhere must not get into the page.
    """
    path, folder = (os.path.normpath(Path.cwd() / place) for place in (root / relative, root))
    return thumbnail(Path(path).read_bytes) if Path(path).is_relative_to(folder) else ""


def thumbnail(read: Callable[[], bytes]) -> str:
    """Returns the middle of a photo, upright and small, as a data URI; empty if it is not there or not an image."""
    try:
        image = decode(read(), enough=_SIDE)
    except (OSError, UnreadableImageError):
        return ""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    middle = (left, top, left + side, top + side)
    square = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, middle, reducing_gap=2)
    buffer = io.BytesIO()
    square.save(buffer, "WEBP", quality=_QUALITY, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"

"""Example photos of a package: a few of the run's own test photos, and what the packaged model says of them.

They show a page's visitor what to ask, they are the first question to an endpoint, and whatever the model is
exported to is compared on them.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dogbreeds.data.folders import BreedFolders, Photo
from dogbreeds.data.images import UnreadableImageError, decode
from dogbreeds.data.layout import display_name
from dogbreeds.errors import PackageError
from dogbreeds.package.messages import as_json
from dogbreeds.package.predictor import Handler

DIRECTORY = "examples"
LISTING = "examples.json"
# Shorter side in pixels, and JPEG quality: 20 to 60 kB a photo.
_SIDE = 384
_QUALITY = 88


@dataclass(frozen=True)
class Example:
    """One example photo.

    Attributes:
        file: Its name in the folder `examples` of the package.
        label: Its class folder.
        breed: The class as people read it.
        answer: What the packaged model says of the file's bytes, as it stands in JSON.
    """

    file: str
    label: str
    breed: str
    answer: dict[str, Any]


def choose(folders: BreedFolders, count: int) -> list[Photo]:
    """Returns test photos of as many classes as can be, evenly spread over the list of classes.

    Within a class the order of their digests decides, which favours neither easy photos nor hard ones. Photos that
    also stand in another split are no examples: the model has learned from them.

    Args:
        folders: The photos of a run.
        count: How many; fewer where there are not so many.
    """
    learned = {photo.digest for split, photos in folders.splits.items() if split != "test" for photo in photos}
    unseen = {photo.digest: photo for photo in folders.splits["test"] if photo.digest not in learned}
    of_class: dict[int, list[Photo]] = {}
    for photo in sorted(unseen.values(), key=lambda photo: photo.digest):
        of_class.setdefault(photo.label, []).append(photo)
    chosen: list[Photo] = []
    while of_class and len(chosen) < count:
        labels = _spread(sorted(of_class), count - len(chosen))
        chosen += [of_class[label].pop(0) for label in labels]
        of_class = {label: photos for label, photos in of_class.items() if photos}
    return sorted(chosen, key=lambda photo: (photo.label, photo.digest))


def save_examples(package: Path, photos: Iterable[Photo], handler: Handler) -> None:
    """Writes example photos into a package, in place of those that were there.

    They are small JPEGs without what cameras write beside the pixels, such as the place. Photos that are not there
    any more, or cannot be read, are left out.

    Args:
        package: Its directory.
        photos: As `choose` returns them.
        handler: Loaded from that package, its temperature set.
    """
    directory = package / DIRECTORY
    shutil.rmtree(directory, ignore_errors=True)
    small = [(photo, content) for photo in photos if (content := _small(photo.path)) is not None]
    if not small:
        return
    directory.mkdir()
    classes = handler.description.classes
    listed = []
    for number, (photo, content) in enumerate(small, 1):
        file, label = f"{number}.jpg", classes[photo.label]
        (directory / file).write_bytes(content)
        (answer,) = handler.predict([content])
        listed.append(asdict(Example(file, label, display_name(label), as_json(answer))))
    (directory / LISTING).write_text(json.dumps(listed, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def load_examples(package: Path) -> list[Example]:
    """Returns the example photos of a package; none where it carries none.

    Raises:
        PackageError: Their list is damaged, or names what is not there.
    """
    listing = package / DIRECTORY / LISTING
    if not listing.is_file():
        return []
    try:
        examples = [Example(**one) for one in json.loads(listing.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise PackageError(f"{listing} is damaged: {error!r}") from error
    for example in examples:
        # A name with a path in it would lead out of the package.
        if Path(example.file).name != example.file or not (listing.parent / example.file).is_file():
            raise PackageError(f"{listing} names {example.file!r}, which is not beside it.")
    return examples


def _spread(labels: Sequence[int], count: int) -> list[int]:
    """As many of the labels, evenly spread; all where there are fewer."""
    count = min(count, len(labels))
    return [labels[position * len(labels) // count] for position in range(count)]


def _small(path: Path) -> bytes | None:
    try:
        image = decode(path.read_bytes(), enough=_SIDE)
    except (OSError, UnreadableImageError):
        return None
    scale = min(1.0, _SIDE / min(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    # A new image has pixels alone, and none of what the old one had in its header.
    plain = Image.new("RGB", size)
    plain.paste(image.resize(size, Image.Resampling.LANCZOS))
    buffer = io.BytesIO()
    plain.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()

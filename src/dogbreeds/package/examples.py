"""Example photos of a package: a few of the run's own test photos.

Visitors of the page can try them, a new endpoint is tested with the first, and exported models are compared on them.
"""

import io
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from dogbreeds.data.folders import BreedFolders
from dogbreeds.data.images import UnreadableImageError, decode
from dogbreeds.data.names import shown_names
from dogbreeds.data.splits import Photo
from dogbreeds.errors import PackageError
from dogbreeds.files import reading, writing

DIRECTORY = "examples"
LISTING = "examples.json"
# Shorter side in pixels, and JPEG quality: 20 to 60 kB a photo.
_SIDE = 384
_QUALITY = 88


@dataclass(frozen=True)
class Example:
    """One example photo: its file in the folder `examples`, its class folder, and how people read that."""

    file: str
    label: str
    breed: str


def choose(folders: BreedFolders, count: int) -> list[Photo]:
    """Returns test photos from as many classes as possible, evenly spread over the list of classes.

    Within a class the order of digests decides, which favours neither easy nor hard photos. Photos that also appear
    in another split are skipped: the model has learned from them.
    """
    learned = {photo.digest for split, photos in folders.splits.items() if split != "test" for photo in photos}
    unseen = {photo.digest: photo for photo in folders.splits["test"] if photo.digest not in learned}
    of_class: dict[int, list[Photo]] = {}
    for photo in sorted(unseen.values(), key=lambda photo: photo.digest):
        of_class.setdefault(photo.label, []).append(photo)
    chosen: list[Photo] = []
    while of_class and len(chosen) < count:
        labels = sorted(of_class)
        wanted = min(count - len(chosen), len(labels))
        chosen += [of_class[labels[place * len(labels) // wanted]].pop(0) for place in range(wanted)]
        of_class = {label: photos for label, photos in of_class.items() if photos}
    return sorted(chosen, key=lambda photo: (photo.label, photo.digest))


def save_examples(package: Path, photos: Iterable[Photo], classes: Sequence[str]) -> None:
    """Writes example photos into a package, replacing any that are there.

    They are small JPEGs without metadata such as the place. Photos that are gone or unreadable are left out.
    """
    directory = package / DIRECTORY
    shutil.rmtree(directory, ignore_errors=True)
    small = [(photo, content) for photo in photos if (content := _small(photo.path)) is not None]
    if not small:
        return
    listed, shown = [], shown_names(classes)
    with writing(directory):
        directory.mkdir()
        for number, (photo, content) in enumerate(small, 1):
            file, label = f"{number}.jpg", classes[photo.label]
            (directory / file).write_bytes(content)
            listed.append(asdict(Example(file, label, shown[photo.label])))
        (directory / LISTING).write_text(json.dumps(listed, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def load_examples(package: Path) -> list[Example]:
    """Returns the example photos of a package, which may have none."""
    listing = package / DIRECTORY / LISTING
    if not listing.is_file():
        return []
    with reading(listing, PackageError):
        values = json.loads(listing.read_text(encoding="utf-8"))
        examples = [Example(one["file"], one["label"], one["breed"]) for one in values]
    for example in examples:
        # A name with a path in it would lead out of the package.
        if Path(example.file).name != example.file or not (listing.parent / example.file).is_file():
            raise PackageError(f"{listing} names {example.file!r}, which is not in {listing.parent}.")
    return examples


def _small(path: Path) -> bytes | None:
    try:
        image = decode(path.read_bytes(), enough=_SIDE)
    except (OSError, UnreadableImageError):
        return None
    scale = min(1.0, _SIDE / min(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    # A new image has no metadata.
    plain = Image.new("RGB", size)
    plain.paste(image.resize(size, Image.Resampling.LANCZOS))
    buffer = io.BytesIO()
    plain.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()

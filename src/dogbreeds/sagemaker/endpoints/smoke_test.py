"""The summary of a package for its tag, and the first photo that a new endpoint is asked about."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dogbreeds.package.examples import DIRECTORY, load_examples
from dogbreeds.package.package import read_description
from dogbreeds.package.predictor import Predictor

# Not allowed in values of tags (AWS also allows letters of other scripts).
_NOT_IN_TAGS = re.compile(r"[^\w .:/=+@-]")
_MAX_TAG = 256


def summary_of(package: Path) -> str:
    """Returns the summary of a package, such as `squeezenet1_1 10 classes accuracy 0.803`, valid as a tag."""
    described = read_description(package)
    words, accuracy = f"{described.backbone} {len(described.classes)} classes", described.metrics.get("test/accuracy")
    return _NOT_IN_TAGS.sub("", words if accuracy is None else f"{words} accuracy {accuracy:.3f}")[:_MAX_TAG]


@dataclass(frozen=True)
class SmokeTestPhoto:
    """A photo to try an endpoint with, and its origin, for messages.

    `expected` is the breed that the package gives on this machine; None where that is unknown.
    """

    content: bytes
    source: str
    expected: str | None


def smoke_test_photo(package: Path) -> SmokeTestPhoto:
    """Returns the first example photo of a package, or a drawn picture where it has none."""
    for example in load_examples(package):
        path = package / DIRECTORY / example.file
        photo = path.read_bytes()
        answer = Predictor.load(package).predict([photo])[0]
        return SmokeTestPhoto(photo, f"{path} ({example.breed})", answer.top[0].breed)
    drawn = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(drawn, "JPEG")
    return SmokeTestPhoto(drawn.getvalue(), "a drawn picture (the package has no example photos)", None)

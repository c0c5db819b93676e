"""The package that is deployed: found in a run or a search, told in a few words, and a first photo to ask about."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dogbreeds.errors import PackageError
from dogbreeds.model.names import DESCRIPTION
from dogbreeds.package.examples import DIRECTORY, load_examples
from dogbreeds.package.predictor import Predictor

# What values of tags can have, but for letters of other scripts.
_NOT_IN_TAGS = re.compile(r"[^\w .:/=+@-]")
_LONGEST_TAG = 256


def summary_of(package: Path) -> str:
    """Returns what a package is, such as `squeezenet1_1 10 classes accuracy 0.803`, as values of tags are written.

    Raises:
        PackageError: Its description is damaged.
    """
    path = package / DESCRIPTION
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        words = f"{described['backbone']} {len(described['classes'])} classes"
        accuracy = described["metrics"].get("test/accuracy")
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise PackageError(f"{path} is damaged ({error}).") from error
    return _NOT_IN_TAGS.sub("", words if accuracy is None else f"{words} accuracy {accuracy:.3f}")[:_LONGEST_TAG]


@dataclass(frozen=True)
class Trial:
    """A photo to try an endpoint with.

    Attributes:
        photo: Its bytes.
        source: Where it is from, for the person.
        expected: What the package itself says of it, as far as that is known.
    """

    photo: bytes
    source: str
    expected: str | None


def trial_of(package: Path) -> Trial:
    """Returns the first example photo of a package, or else a drawn picture, which shows that there is an answer.

    Raises:
        PackageError: Its list of examples is damaged.
    """
    for example in load_examples(package):
        path = package / DIRECTORY / example.file
        photo = path.read_bytes()
        return Trial(photo, f"{path} ({example.breed})", Predictor.load(package).predict([photo])[0][0].breed)
    drawn = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(drawn, "JPEG")
    return Trial(drawn.getvalue(), "a drawn picture, since the package has no example photos", None)

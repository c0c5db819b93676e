"""Names of files and class folders as people read them."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

# 001.Affenpinscher, but not the grade 1.5; n02085620-Chihuahua, as ImageNet and Stanford name their folders.
_NUMBER = re.compile(r"^(\d+\.(?=\D)|n\d{8}-)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
MAX_LISTED = 10


def readable(path: str | Path) -> str:
    r"""Returns a file's name as text: file names are bytes, and what is not UTF-8 in them becomes `\xfc`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def class_name(folder: str) -> str:
    """Returns the class of a folder: macOS and Linux write the same umlaut with different bytes."""
    return unicodedata.normalize("NFC", readable(folder))


def listing(lines: Iterable[str]) -> list[str]:
    """Returns the lines of a message that names things: the first ten, and how many there are beside them."""
    every = list(lines)
    more = [f"    ... and {len(every) - MAX_LISTED} more"] if len(every) > MAX_LISTED else []
    return [f"    {line}" for line in every[:MAX_LISTED]] + more


def shown_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Returns classes as people read them, `German shepherd` for `001.German_shepherd`, no two of them alike."""
    shown = [_CONTROL.sub(" ", _NUMBER.sub("", name).replace("_", " ")).strip() or name for name in classes]
    while len(counts := Counter(shown)) < len(classes):
        shown = [name if counts[one] > 1 else one for name, one in zip(classes, shown, strict=True)]
    return tuple(shown)

"""The model card of a package: README.md, in the form that model hubs read."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torchvision.models import get_weight

from dogbreeds.data.folders import BreedFolders
from dogbreeds.data.names import readable, shown_names
from dogbreeds.debug.record import Matrix
from dogbreeds.files import write_text
from dogbreeds.model.names import README
from dogbreeds.model.weight_files import ENDINGS
from dogbreeds.package.package import read_description
from dogbreeds.report.page import templates
from dogbreeds.report.sections.confusion import breeds, mistakes

_LISTED = 5
# WordNet's number of a class, in the name of a folder or a photo, and how ImageNet's validation and test photos begin.
_IMAGENET = re.compile(r"(^|/)(n\d{8}|ILSVRC\d{4}_)")
_MARKS = re.compile(r"([\\`*_\[\]<>|&$~#])")


def write_card(package: Path, folders: BreedFolders, metrics: Mapping[str, Any], confusion: Matrix) -> None:
    """Writes the model card of a package, whole or not at all.

    Args:
        folders: What the model was trained and tested on.
        metrics: The content of the run's metrics.json.
        confusion: Counts of the test photos (classes, classes): row by class, column by answer.
    """
    names = shown_names(folders.classes)
    environment = templates("dogbreeds.package")
    environment.filters["plain"] = _plain
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    content = {
        "model": read_description(package),
        "endings": ENDINGS,
        "data": readable(folders.root.resolve().name),
        "metrics": metrics,
        "names": names,
        "worst": breeds(metrics["test/per_class_accuracy"], confusion, names)[:_LISTED],
        "mistakes": mistakes(confusion, names)[:_LISTED],
        "imagenet": _in_imagenet(folders, names),
    }
    write_text(package / README, environment.get_template(README).render(content) + "\n")


def _in_imagenet(folders: BreedFolders, names: Sequence[str]) -> dict[str, int]:
    """Counts the test photos that ImageNet's files are called like, and the classes that ImageNet has too."""
    known = {name.casefold() for name in get_weight("ResNet18_Weights.IMAGENET1K_V1").meta["categories"]}
    return {
        "photos": sum(_IMAGENET.search(photo.name) is not None for photo in folders.splits["test"]),
        "classes": sum(name.casefold() in known for name in names),
    }


def _plain(text: str) -> str:
    """Returns a name on one line in which nothing means anything to Markdown."""
    return _MARKS.sub(r"\\\1", " ".join(readable(text).split()))

"""The model card: facts about a package for the page and for programs."""

import math
from collections.abc import Mapping
from typing import Any

from dogbreeds.data.names import shown_names
from dogbreeds.package.package import Description

_SAME = ("backbone", "pretrained", "weights", "licence", "unfreeze", "temperature", "precision", "made")
_SCORES = ("accuracy", "top5_accuracy", "macro_f1", "loss", "calibration_error", "calibration_error_uncalibrated")


def card(description: Description, engine: str | None = None) -> dict[str, Any]:
    """Returns the model card as JSON values; `engine` runs the trunk here, None is the one of the training.

    `scores` are on the test photos; `classes` are in the order of their index, each with the share of its test photos
    that were classified correctly. Unknown numbers are None.
    """
    metrics, transform = description.metrics, description.transform
    shares = _per_class(metrics, len(description.classes))
    classes = enumerate(zip(shown_names(description.classes), shares, strict=True))
    return {
        **{name: getattr(description, name) for name in _SAME},
        "head": {"kind": description.head.kind, "hidden": list(description.head.hidden)},
        "image": {"resize": transform.resize, "crop": transform.crop, "mirror": description.mirror},
        "classes": [{"index": index, "breed": name, "accuracy": share} for index, (name, share) in classes],
        "scores": {name: _number(metrics.get(f"test/{name}")) for name in _SCORES},
        "photos": dict(description.photos),
        "engine": engine or description.engine,
        "versions": dict(description.versions),
    }


def _per_class(metrics: Mapping[str, Any], classes: int) -> list[float | None]:
    known = metrics.get("test/per_class_accuracy", ())
    return [_number(value) for value in known] if len(known) == classes else [None] * classes


def _number(value: object) -> float | None:
    """Returns a finite number; classes without test photos have NaN, which JSON has not."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

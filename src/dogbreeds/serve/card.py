"""The model card: what a page or a program is told of a package before it asks."""

from __future__ import annotations

from typing import Any

from dogbreeds.model.package import Description


def card(description: Description, engine: str | None = None) -> dict[str, Any]:
    """Returns what there is to say of a model, ready for JSON.

    Args:
        description: Of its package.
        engine: What runs the trunk here; None is what ran it in training.
    """
    return {
        "backbone": description.backbone,
        "classes": list(description.classes),
        "engine": engine or description.engine,
        "precision": description.precision,
    }

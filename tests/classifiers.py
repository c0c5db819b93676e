"""The module under test, in small: what all tests that train one leave alone stands here."""

from __future__ import annotations

from typing import Any

from dogbreeds.model.classifier import BreedClassifier


def small_classifier(
    network: Any, *, classes: int, learning_rate: float, tail_learning_rate: float, steps: int
) -> BreedClassifier:
    """Trains a network with plain Adam at a constant rate."""
    return BreedClassifier(
        network,
        classes=classes,
        learning_rate=learning_rate,
        tail_learning_rate=tail_learning_rate,
        optimizer="adam",
        weight_decay=0.0,
        schedule="constant",
        class_weights=None,
        trunk_precision="fp32",
        steps=steps,
        seed=0,
    )

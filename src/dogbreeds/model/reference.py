"""The exact linear solution as the reference of a run: solved once for a set of features, then remembered."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from dogbreeds.data.datamodule import Features
from dogbreeds.features.store.artefacts import Artefacts
from dogbreeds.model.exact import ExactSolution, solve
from dogbreeds.model.head import Head

log = logging.getLogger(__name__)

# To be raised with any change of how it is solved.
_VERSION = 1


@torch.no_grad()
def exact_reference(
    head: Head, vectors: Mapping[str, Features], class_weights: Tensor | None, artefacts: Artefacts
) -> dict[str, float]:
    """Returns what metrics.json says of the exact linear solution.

    Args:
        head: Its normalisation, fitted to the training features, is what both start from.
        vectors: Pooled vectors of each split.
        class_weights: Weights of the classes (classes,) in the training loss, or None.
        artefacts: Where solutions are remembered.
    """
    inputs = {split: head.normalise(features.tensor) for split, features in vectors.items()}
    labels = {split: features.labels for split, features in vectors.items()}
    name = _name(inputs, labels, class_weights)
    kept = artefacts.get(name)
    if kept is None:
        with torch.enable_grad():
            solution = solve(inputs["train"], labels["train"], inputs["valid"], labels["valid"], class_weights)
        artefacts.put(name, _pack(solution))
    else:
        solution = _unpack(kept)
    correct = {
        split: (solution.logits(inputs[split]).argmax(dim=1) == labels[split]).double().mean()
        for split in ("valid", "test")
    }
    return {
        "reference/test_accuracy": float(correct["test"]),
        "reference/val_accuracy": float(correct["valid"]),
        "reference/val_loss": solution.validation_loss,
        "reference/strength": solution.strength,
    }


def warn_below_reference(metrics: Mapping[str, Any]) -> None:
    """Warns where the trained head stays behind the exact solution by more than chance explains."""
    reference, reached = metrics["reference/val_accuracy"], metrics["val/accuracy"]
    # Two standard errors of the difference that this many photos can show.
    margin = 2 * math.sqrt(max(reference * (1 - reference), 0.01) / metrics["images"]["valid"])
    if reached < reference - margin:
        log.warning(
            "The trained head reaches %.3f on the validation photos, the exact linear solution %.3f: "
            "try more epochs, a smaller batch or another lr.",
            reached,
            reference,
        )


def _name(inputs: Mapping[str, Tensor], labels: Mapping[str, Tensor], class_weights: Tensor | None) -> str:
    """Names a problem by all that its solution depends on."""
    digest = hashlib.sha256(f"{_VERSION}".encode())
    for tensor in (*(part[split] for part in (inputs, labels) for split in ("train", "valid")), class_weights):
        if tensor is not None:
            digest.update(f"{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
    return f"exact-{digest.hexdigest()}"


def _pack(solution: ExactSolution) -> bytes:
    scalars = torch.tensor([solution.strength, solution.validation_loss], dtype=torch.float64)
    return save({"weight": solution.weight.contiguous(), "bias": solution.bias.contiguous(), "scalars": scalars})


def _unpack(content: bytes) -> ExactSolution:
    tensors = load(content)
    strength, loss = tensors["scalars"].tolist()
    return ExactSolution(strength, tensors["weight"], tensors["bias"], loss)

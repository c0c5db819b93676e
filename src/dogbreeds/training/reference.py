"""The exact linear solution as the reference of a run: solved once for a set of features, then remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from safetensors.torch import load, save
from torch import Tensor

from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.model.exact import ExactPath, ExactSolution
from dogbreeds.model.head import Head
from dogbreeds.training.features import Features

# Raise it with any change to how it is solved.
_VERSION = 2


@torch.no_grad()
def exact_path(
    head: Head, vectors: Mapping[str, Features], class_weights: Tensor | None, blobs: BlobCache
) -> ExactPath:
    """Returns the exact linear solutions on the features of a run."""
    train, valid = (head.normalise(vectors[split].tensor) for split in ("train", "valid"))
    labels, held_out = vectors["train"].labels, vectors["valid"].labels
    problem = (train, labels, valid, held_out, class_weights)
    return ExactPath(*problem, StoredSolutions(blobs, f"exact-{digest_of(f'{_VERSION}', problem)}"))


@torch.no_grad()
def reference_metrics(solution: ExactSolution, head: Head, vectors: Mapping[str, Features]) -> dict[str, float]:
    """Returns the entries of metrics.json about the exact linear solution."""
    correct = {
        split: (
            solution.logits(head.normalise(vectors[split].tensor)).argmax(dim=1) == vectors[split].labels
        ).double()
        for split in ("valid", "test")
    }
    return {
        "reference/test_accuracy": float(correct["test"].mean()),
        "reference/val_accuracy": float(correct["valid"].mean()),
        "reference/val_loss": solution.validation_loss,
        "reference/strength": solution.strength,
    }


class StoredSolutions:
    """The points of one path, in the feature store and in memory."""

    def __init__(self, blobs: BlobCache, name: str) -> None:
        self._blobs, self._name = blobs, name
        self._known: dict[float, ExactSolution] = {}

    def get(self, strength: float) -> ExactSolution | None:
        if strength not in self._known and (kept := self._blobs.get(f"{self._name}-{strength!r}")) is not None:
            self._known[strength] = _unpack(kept)
        return self._known.get(strength)

    def put(self, solution: ExactSolution) -> None:
        self._known[solution.strength] = solution
        self._blobs.put(f"{self._name}-{solution.strength!r}", _pack(solution))


def digest_of(text: str, tensors: Sequence[Tensor | None]) -> str:
    """Returns a digest of all that something kept for later runs depends on."""
    digest = hashlib.sha256(text.encode())
    for tensor in tensors:
        if tensor is not None:
            digest.update(f"{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _pack(solution: ExactSolution) -> bytes:
    scalars = torch.tensor([solution.strength, solution.validation_loss], dtype=torch.float64)
    return save({"weight": solution.weight.contiguous(), "bias": solution.bias.contiguous(), "scalars": scalars})


def _unpack(content: bytes) -> ExactSolution:
    tensors = load(content)
    strength, loss = tensors["scalars"].tolist()
    return ExactSolution(strength, tensors["weight"], tensors["bias"], loss)

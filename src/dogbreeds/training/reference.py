"""The exact linear solution as the reference of a run: solved once for a set of features, then remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load, save
from torch import Tensor

from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.model.exact import ExactPath, ExactSolution
from dogbreeds.model.head import Head
from dogbreeds.model.paired import Paired
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


@dataclass(frozen=True)
class Reference:
    """What the exact linear solution answers: the classes of the photos of `valid` and `test`, and the right ones.

    Both are int64 (photos,), in the order of the index; `metrics` are its entries in metrics.json.
    """

    answers: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    metrics: dict[str, float]

    @classmethod
    @torch.no_grad()
    def of(cls, solution: ExactSolution, head: Head, vectors: Mapping[str, Features]) -> Reference:
        held_out = {split: vectors[split] for split in ("valid", "test")}
        answers = {split: solution.logits(head.normalise(one.tensor)).argmax(dim=1) for split, one in held_out.items()}
        labels = {split: one.labels for split, one in held_out.items()}
        accuracy = {split: float((answers[split] == labels[split]).double().mean()) for split in held_out}
        metrics = {
            "reference/test_accuracy": accuracy["test"],
            "reference/val_accuracy": accuracy["valid"],
            "reference/val_loss": solution.validation_loss,
            "reference/strength": solution.strength,
        }
        return cls(answers, labels, metrics)

    def against(self, answers: Mapping[str, Tensor]) -> dict[str, int]:
        """Returns how many photos it alone gets right (`only`), and how many only the other answers (`missed`)."""
        found: dict[str, int] = {}
        for split, name in (("test", "test"), ("valid", "val")):
            own, other = (one[split] == self.labels[split] for one in (self.answers, answers))
            pair = Paired.of(own.tolist(), other.tolist())
            found |= {f"reference/{name}_only": pair.first, f"reference/{name}_missed": pair.second}
        return found


class StoredSolutions:
    """The points of one path, in the feature store and in memory."""

    def __init__(self, blobs: BlobCache, name: str) -> None:
        self._blobs, self._name = blobs, name
        self._known: dict[float, ExactSolution] = {}

    def get(self, strength: float) -> ExactSolution | None:
        if strength not in self._known and (kept := self._blobs.get(f"{self._name}-{strength!r}")) is not None:
            tensors = load(kept)
            _, loss = tensors["scalars"].tolist()
            self._known[strength] = ExactSolution(strength, tensors["weight"], tensors["bias"], loss)
        return self._known.get(strength)

    def put(self, solution: ExactSolution) -> None:
        self._known[solution.strength] = solution
        scalars = torch.tensor([solution.strength, solution.validation_loss], dtype=torch.float64)
        tensors = {"weight": solution.weight.contiguous(), "bias": solution.bias.contiguous(), "scalars": scalars}
        self._blobs.put(f"{self._name}-{solution.strength!r}", save(tensors))


def digest_of(text: str, tensors: Sequence[Tensor | None]) -> str:
    """Returns a digest of all that something kept for later runs depends on."""
    digest = hashlib.sha256(text.encode())
    for tensor in tensors:
        if tensor is not None:
            digest.update(f"{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()

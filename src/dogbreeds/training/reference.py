"""The exact linear solution as the reference of a run: solved once for a set of features, then remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors.torch import load, save
from torch import Tensor

from dogbreeds.data.folders import BreedFolders
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.model.exact import ExactPath, ExactSolution
from dogbreeds.model.head import Head
from dogbreeds.model.paired import Paired
from dogbreeds.model.rows import computed, derived
from dogbreeds.training.features import Features, RunFeatures

# Raise it with any change to how it is solved.
_VERSION = 3
# A solution is learned from training photos of up to so many numbers in all, of fewer with more than 100 classes, but
# of some photos of each class; more photos are sampled. A reference then takes a few minutes on two cores.
_NUMBERS, _CLASSES = 50_000 * 2_048, 100
_OF_EACH_CLASS = 10


@torch.no_grad()
def exact_path(
    head: Head, features: RunFeatures, class_weights: Tensor | None, solutions: StoredSolutions
) -> ExactPath:
    """Returns the exact linear solutions on the features of a run, learned from the photos of `sample`."""
    train, valid = features.vectors["train"], features.vectors["valid"]
    chosen = sample(train)
    inputs, held_out = derived([train.values], head.normalise, chosen), derived([valid.values], head.normalise)
    return ExactPath(inputs, train.labels[chosen], held_out, valid.labels, class_weights, solutions)


def sample(train: Features) -> Tensor:
    """Returns the training photos that a solution is learned from: positions, int64, in order.

    All of them, or a share of each class that is drawn by a seed.
    """
    labels = train.labels
    counts, width = labels.bincount(), train.values[torch.arange(1)].shape[1]
    most = max(_NUMBERS * _CLASSES // max(len(counts), _CLASSES) // width, _OF_EACH_CLASS * len(counts))
    if len(labels) <= most:
        return torch.arange(len(labels))
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    places = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]
    shares = (counts * most // len(labels)).clamp_min(_OF_EACH_CLASS)
    return by_class[places < shares[labels[by_class]]].sort().values


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
        answers = {
            split: computed(lambda block: solution.logits(head.normalise(block)).argmax(dim=1), one.values)
            for split, one in held_out.items()
        }
        labels = {split: one.labels for split, one in held_out.items()}
        accuracy = {split: float((answers[split] == labels[split]).double().mean()) for split in held_out}
        metrics = {
            "reference/test_accuracy": accuracy["test"],
            "reference/val_accuracy": accuracy["valid"],
            "reference/val_loss": solution.validation_loss,
            "reference/strength": solution.strength,
            "reference/photos": len(sample(vectors["train"])),
            "reference/training_photos": len(vectors["train"].labels),
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

    def __init__(self, blobs: BlobCache, problem: str) -> None:
        """Takes a digest of the problem that is solved."""
        self._blobs, self._name = blobs, f"exact-{_VERSION}-{problem}"
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


def digest_of(text: str, folders: BreedFolders, class_weights: Tensor | None) -> str:
    """Returns a digest of photos, their labels and splits, and of a text that names all else that matters."""
    weights = None if class_weights is None else class_weights.tolist()
    digest = hashlib.sha256(f"{text} {weights} {folders.counts()} {len(folders.classes)}".encode())
    for photo in folders.photos():
        digest.update(f"{photo.digest} {photo.label} ".encode())
    return digest.hexdigest()

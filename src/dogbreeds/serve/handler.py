"""From the bytes of photos to ranked breeds, knowing nothing but a model package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dogbreeds.data.images import decode
from dogbreeds.features.engines.reference import TorchEngine
from dogbreeds.model.package import Description, Network, load_package

TOP = 5


@dataclass(frozen=True)
class Ranked:
    """One breed of an answer: its name as people read it, its class index, its calibrated probability."""

    breed: str
    index: int
    probability: float


def display_name(folder: str) -> str:
    """Returns a class folder's name as people read it: `001.German_shepherd` becomes `German shepherd`."""
    return re.sub(r"^\d+\.", "", folder).replace("_", " ")


class Handler:
    """A loaded package that answers."""

    def __init__(self, description: Description, network: Network, device: torch.device) -> None:
        """Puts the network on a device; `Handler.load` is the usual way here."""
        self.description = description
        self.network = network
        self.device = device
        self.engine = TorchEngine(
            network.trunk, device=device, precision=description.precision, batch_size=description.batch_size
        )
        network.tail.to(device)
        network.head.to(device)

    @classmethod
    def load(cls, package: Path, device: torch.device | None = None) -> Handler:
        """Loads a package onto a device, the GPU where there is one.

        Raises:
            PackageError: There is no package, or it is damaged.
        """
        description, network = load_package(package)
        return cls(description, network, device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    def pixels(self, content: bytes) -> Tensor:
        """Returns a photo's bytes as the uint8 tensor (3, crop, crop) that `logits` takes.

        Raises:
            UnreadableImageError: The bytes are no image.
        """
        return self.description.transform(decode(content))

    def logits(self, images: Tensor) -> Tensor:
        """Returns float32 logits (N, classes) on the CPU for uint8 images (N, 3, crop, crop)."""
        return self.classify(self.engine(images))

    @torch.inference_mode()
    def classify(self, features: Tensor) -> Tensor:
        """Returns logits for what the trunk computed: the part of `logits` behind the frozen trunk."""
        size = max(self.description.batch_size, 1)
        parts = [self.network.head(self.network.tail(part.to(self.device))) for part in features.split(size)]
        return torch.cat(parts).float().cpu()

    def rank(self, logits: Tensor) -> list[list[Ranked]]:
        """Returns the best breeds of each row, most probable first, with calibrated probabilities."""
        probabilities = (logits.double() / self.description.temperature).softmax(dim=1)
        best = probabilities.topk(min(TOP, probabilities.shape[1]))
        classes = self.description.classes
        return [
            [Ranked(display_name(classes[index]), index, value) for index, value in zip(indices, values, strict=True)]
            for indices, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def predict(self, contents: Sequence[bytes]) -> list[list[Ranked]]:
        """Answers for the bytes of one or more photos.

        Raises:
            UnreadableImageError: One of them is no image.
        """
        return self.rank(self.logits(torch.stack([self.pixels(content) for content in contents])))

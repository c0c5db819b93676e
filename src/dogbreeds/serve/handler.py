"""From the bytes of photos to ranked breeds, knowing nothing but a model package."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dogbreeds.data.images import UnreadableImageError
from dogbreeds.errors import EngineError
from dogbreeds.features.engines import Engine, Keeper, available, batch_when_serving, build, lanes_of
from dogbreeds.model.backbones import fingerprint
from dogbreeds.model.package import Description, Network, load_package

log = logging.getLogger(__name__)

TOP = 5
_BATCH_SIZE = 32


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

    def __init__(
        self, description: Description, network: Network, device: torch.device, keeper: Keeper | None = None
    ) -> None:
        """Puts the network on a device; `Handler.load` is the usual way here."""
        self.description = description
        self.network = network
        self.device = device
        self._keeper = keeper
        self._engine: Engine | None = None
        self._starting = threading.Lock()
        network.tail.to(device)
        network.head.to(device)

    @classmethod
    def load(cls, package: Path, device: torch.device | None = None, keeper: Keeper | None = None) -> Handler:
        """Loads a package onto a device, the GPU where there is one.

        Args:
            package: Its directory.
            device: Where it runs.
            keeper: Keeps what is dear to make again when the engine starts.

        Raises:
            PackageError: There is no package, or it is damaged.
        """
        description, network = load_package(package)
        chosen = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return cls(description, network, chosen, keeper)

    @property
    def engine(self) -> Engine:
        """The engine that the model was trained with, or the plain torch module where that cannot run."""
        with self._starting:
            if self._engine is None:
                wanted = self.description.engine
                self._engine = self._start(wanted if wanted in available(self.device) else "torch")
            return self._engine

    def _start(self, name: str) -> Engine:
        try:
            return build(
                name,
                self.network.trunk,
                fingerprint(self.network.trunk),
                self.description.transform,
                device=self.device,
                precision=self.description.precision,
                batch_size=batch_when_serving(name),
                lanes=lanes_of(None),
                keeper=self._keeper,
            )
        except EngineError as error:
            log.warning("%s Going on with torch.", error)
            return self._start("torch")

    def pixels(self, content: bytes) -> Tensor:
        """Returns a photo's bytes as the uint8 tensor (3, crop, crop) that `logits` takes.

        Raises:
            UnreadableImageError: The bytes are no image.
        """
        (image,) = self.engine.read([content], self.description.transform)
        if isinstance(image, UnreadableImageError):
            raise image
        return image

    def logits(self, images: Tensor) -> Tensor:
        """Returns float32 logits (N, classes) on the CPU for uint8 images (N, 3, crop, crop)."""
        return self.classify(self.engine(images))

    @torch.inference_mode()
    def classify(self, features: Tensor) -> Tensor:
        """Returns logits for what the trunk computed: the part of `logits` behind the frozen trunk."""
        parts = [
            self.network.head(self.network.tail(part.to(self.device, torch.float32)))
            for part in features.split(_BATCH_SIZE)
        ]
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

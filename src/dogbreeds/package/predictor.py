"""From the bytes of photos to ranked breeds, knowing nothing but a model package."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dogbreeds.data.images import UnreadableImageError, read_all
from dogbreeds.data.layout import display_name
from dogbreeds.errors import EngineError
from dogbreeds.features.engines import available, batch_when_serving, build, worker_count
from dogbreeds.features.engines.engine import Engine
from dogbreeds.model.backbones import fingerprint
from dogbreeds.model.network import Network
from dogbreeds.package.messages import Question, Ranked, answer_to, question_of
from dogbreeds.package.package import Description, load_package

if TYPE_CHECKING:
    from dogbreeds.features.store.blobs import BlobCache

log = logging.getLogger(__name__)

TOP = 5
_BATCH_SIZE = 32


@dataclass(frozen=True)
class Ranking:
    """The answer to a request: for each photo its breeds, and whether the photos came as a list."""

    photos: list[list[Ranked]]
    many: bool


class Handler:
    """A loaded package that answers."""

    def __init__(
        self,
        description: Description,
        network: Network,
        device: torch.device,
        keeper: BlobCache | None = None,
        *,
        one_by_one: bool = True,
    ) -> None:
        """Puts the network on a device; `Handler.load` is the usual way here."""
        self.description = description
        self.network = network
        self.device = device
        self._keeper = keeper
        self._one_by_one = one_by_one
        self._engine: Engine | None = None
        self._starting = threading.Lock()
        network.tail.to(device)
        network.head.to(device)

    @classmethod
    def load(
        cls,
        package: Path,
        device: torch.device | None = None,
        keeper: BlobCache | None = None,
        *,
        one_by_one: bool = True,
    ) -> Handler:
        """Loads a package onto a device, the GPU where there is one.

        Args:
            package: Its directory.
            device: Where it runs.
            keeper: Keeps what is expensive to recompute when the engine starts.
            one_by_one: Photos come as people send them, and none waits for another; False where there are many,
                which is faster and gives the same answers.

        Raises:
            PackageError: There is no package, or it is damaged.
        """
        description, network = load_package(package)
        chosen = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return cls(description, network, chosen, keeper, one_by_one=one_by_one)

    @property
    def engine(self) -> Engine:
        """The engine that the model was trained with, or the fastest of this machine where that cannot run."""
        with self._starting:
            if self._engine is None:
                wanted, found = self.description.engine, available(self.device)
                self._engine = self._start(wanted if wanted in found else found[0])
            return self._engine

    def warm_up(self) -> None:
        """Starts the engine and computes something, so that nobody waits for what is made at first use."""
        side = self.description.transform.crop
        self.logits(torch.zeros(1, 3, side, side, dtype=torch.uint8))

    def _start(self, name: str) -> Engine:
        try:
            return build(
                name,
                self.network.trunk,
                fingerprint(self.network.trunk),
                self.description.transform,
                device=self.device,
                precision=self.description.precision,
                batch_size=batch_when_serving(name) if self._one_by_one else None,
                workers=worker_count(None),
                cache=self._keeper,
            )
        except EngineError as error:
            log.warning("%s Going on with torch.", error)
            return self._start("torch")

    def pixels(self, content: bytes) -> Tensor:
        """Returns a photo's bytes as the uint8 tensor (3, crop, crop) that `logits` takes.

        Raises:
            UnreadableImageError: The bytes are no image.
        """
        (image,) = read_all([content], self.description.transform)
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

    def answers(self, contents: Sequence[bytes]) -> list[list[Ranked] | UnreadableImageError]:
        """Answers for the bytes of photos, or says why one is none; the others are answered all the same."""
        read = read_all(contents, self.description.transform)
        images = [image for image in read if isinstance(image, Tensor)]
        ranked = iter(self.rank(self.logits(torch.stack(images))) if images else [])
        return [next(ranked) if isinstance(image, Tensor) else image for image in read]

    def predict(self, contents: Sequence[bytes]) -> list[list[Ranked]]:
        """Answers for the bytes of one or more photos.

        Raises:
            UnreadableImageError: One of them is no image.
        """
        ranked = []
        for answer in self.answers(contents):
            if isinstance(answer, UnreadableImageError):
                raise answer
            ranked.append(answer)
        return ranked


def model_fn(model_dir: str) -> Handler:
    """Loads a package, as containers of the classic contract ask for it."""
    return Handler.load(Path(model_dir))


def input_fn(body: bytes, content_type: str) -> Question:
    """Reads a request.

    Raises:
        Refused: It is none that can be answered.
    """
    return question_of(body, content_type, most_photos=None)


def predict_fn(question: Question, handler: Handler) -> Ranking:
    """Answers a request.

    Raises:
        Refused: A photo of it cannot be read.
    """
    return Ranking(question.ranked(handler.answers(question.photos)), question.many)


def output_fn(ranking: Ranking, accept: str) -> tuple[bytes, str]:
    """Writes an answer.

    Returns:
        Its body, and the content type of that.

    Raises:
        Refused: It is wanted in no form that there is.
    """
    return answer_to(ranking.photos, accept, many=ranking.many)

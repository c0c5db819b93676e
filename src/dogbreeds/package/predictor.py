"""From the bytes of photos to ranked breeds, given nothing but a model package."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dogbreeds.data.images import UnreadableImageError
from dogbreeds.data.names import shown_names
from dogbreeds.data.transform import read_all
from dogbreeds.errors import EngineError
from dogbreeds.features.engines import Engine, available, build, worker_count
from dogbreeds.model.backbones import fingerprint
from dogbreeds.model.network import Network
from dogbreeds.package.messages import Answer, Prediction
from dogbreeds.package.package import Description, load_package

if TYPE_CHECKING:
    from dogbreeds.features.store.blobs import BlobCache

log = logging.getLogger(__name__)

#: Breeds of each answer.
TOP = 5
_BATCH_SIZE = 32


class Predictor:
    """A loaded model package; any number of threads may use it. The temperature in its description may be set."""

    #: How many breeds an answer has; may be set too.
    top = TOP

    def __init__(
        self,
        description: Description,
        network: Network,
        device: torch.device,
        cache: BlobCache | None = None,
        *,
        one_by_one: bool = True,
    ) -> None:
        """Moves the network to a device; most callers want `Predictor.load`."""
        self.description = description
        self.network = network
        self.device = device
        self._cache = cache
        self._one_by_one = one_by_one
        self._engine: Engine | None = None
        self._starting = threading.Lock()
        self._shown = shown_names(description.classes)
        network.tail.to(device)
        network.head.to(device)

    @classmethod
    def load(
        cls,
        package: Path,
        device: torch.device | None = None,
        cache: BlobCache | None = None,
        *,
        one_by_one: bool = True,
    ) -> Predictor:
        """Loads a package onto a device.

        Args:
            device: Where it runs; None takes the GPU where there is one.
            cache: Keeps what is expensive to recompute when the engine starts.
            one_by_one: Photos arrive singly and none waits for another; False for many at once, which is faster and
                gives the same predictions (on GPUs but for their last bits).
        """
        description, network = load_package(package)
        chosen = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return cls(description, network, chosen, cache, one_by_one=one_by_one)

    @property
    def engine(self) -> Engine:
        """The engine that the model was trained with, or the fastest of this machine where that one cannot run."""
        with self._starting:
            if self._engine is None:
                wanted, found = self.description.engine, available(self.device)
                self._engine = self._start(wanted if wanted in found else found[0])
            return self._engine

    def warm_up(self) -> None:
        """Starts the engine and runs one image, so that the first request is not slow."""
        side = self.description.transform.crop
        self.logits(torch.zeros(1, 3, side, side, dtype=torch.uint8))

    def _start(self, name: str) -> Engine:
        precision = self.description.precision_by(name)
        if precision != self.description.precision:
            log.warning("The trunk runs in %s: int8 needs OpenVINO on a processor.", precision)
        try:
            return build(
                name,
                self.network.trunk,
                fingerprint(self.network.trunk),
                self.description.transform,
                device=self.device,
                precision=precision,
                batch_size=None,
                workers=worker_count(None),
                cache=self._cache,
                one_by_one=self._one_by_one,
                int8=self.network.int8 if precision == "int8" else None,
            )
        except EngineError as error:
            log.warning("%s Using torch instead.", error)
            return self._start("torch")

    def logits(self, images: Tensor) -> Tensor:
        """Returns float32 logits (N, classes) on the CPU for uint8 images (N, 3, crop, crop)."""
        return self.classify(self.engine(images))

    def classify(self, features: Tensor) -> Tensor:
        """Returns float32 logits (N, classes) for the features of N images, as the frozen trunk computes them."""
        return self.scored(features)[0]

    @torch.inference_mode()
    def scored(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what `classify` does, and float32 scores (N,) as `Head.scored` gives them, on the CPU."""
        parts = [
            self.network.head.scored(self.network.tail(part.to(self.device, torch.float32)))
            for part in features.split(_BATCH_SIZE)
        ]
        logits, scores = (torch.cat(column).float().cpu() for column in zip(*parts, strict=True))
        return logits, scores

    def rank(self, logits: Tensor, scores: Tensor) -> list[Answer]:
        """Returns answers from what `scored` gave: calibrated, and by the threshold of the package."""
        threshold = self.description.known.get("threshold")
        probabilities = (logits.double() / self.description.temperature).softmax(dim=1)
        best = probabilities.topk(min(self.top, probabilities.shape[1]))
        answers = []
        rows = zip(best.indices.tolist(), best.values.tolist(), scores.tolist(), strict=True)
        for indices, values, score in rows:
            top = [Prediction(self._shown[index], index, value) for index, value in zip(indices, values, strict=True)]
            answers.append(Answer(top) if threshold is None else Answer(top, score >= threshold, score))
        return answers

    def predict_each(self, contents: Sequence[bytes]) -> list[Answer | UnreadableImageError]:
        """Returns the answer for each photo, or why it cannot be read. Bad photos do not affect the others."""
        read = read_all(contents, self.description.transform)
        images = [image for image in read if isinstance(image, Tensor)]
        ranked = iter(self.rank(*self.scored(self.engine(torch.stack(images)))) if images else [])
        return [next(ranked) if isinstance(image, Tensor) else image for image in read]

    def predict(self, contents: Sequence[bytes]) -> list[Answer]:
        """Returns the answer for each photo; raises `UnreadableImageError` where one is not an image."""
        predictions = []
        for found in self.predict_each(contents):
            if isinstance(found, UnreadableImageError):
                raise found
            predictions.append(found)
        return predictions

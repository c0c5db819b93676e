"""A network: a frozen trunk, an optional trainable tail, a head."""

import hashlib
from dataclasses import dataclass

from torch import nn
from torchvision.ops import StochasticDepth

from dogbreeds.model.head import Head


@dataclass(frozen=True)
class Graph:
    """A trunk as OpenVINO writes it: the XML of its structure, and the weights that this points to."""

    structure: bytes
    weights: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.structure + self.weights).hexdigest()


@dataclass(frozen=True)
class Network:
    """The three parts of a classifier: `head(tail(trunk(images)))`.

    `int8` is the same trunk after quantisation, where that one computes the features.
    """

    trunk: nn.Sequential
    tail: nn.Sequential
    head: Head
    int8: Graph | None = None

    @property
    def draws(self) -> bool:
        """Whether tail or head use randomness in training (dropout, stochastic depth)."""
        trained = (*self.tail.modules(), *self.head.modules())
        drawing = any(isinstance(module, nn.Dropout | StochasticDepth) and module.p > 0 for module in trained)
        # What timm's own layers call it.
        return drawing or any(getattr(module, "drop_prob", 0) > 0 for module in trained)

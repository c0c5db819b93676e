"""A network: a frozen trunk, an optional trainable tail, a head."""

from dataclasses import dataclass

from torch import nn
from torchvision.ops import StochasticDepth

from dogbreeds.model.head import Head


@dataclass(frozen=True)
class Network:
    """The three parts of a classifier: `head(tail(trunk(images)))`."""

    trunk: nn.Sequential
    tail: nn.Sequential
    head: Head

    @property
    def draws(self) -> bool:
        """Whether tail or head use randomness in training (dropout, stochastic depth)."""
        trained = (*self.tail.modules(), *self.head.modules())
        drawing = any(isinstance(module, nn.Dropout | StochasticDepth) and module.p > 0 for module in trained)
        # What timm's own layers call it.
        return drawing or any(getattr(module, "drop_prob", 0) > 0 for module in trained)

"""What a library of backbones gives for one of its networks, and what is known of weights."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from dogbreeds.data.transform import Transform
from dogbreeds.errors import ConfigError

State = Mapping[str, Tensor]
#: The licence of weights that come as a file.
NOT_STATED = "not stated"


@dataclass(frozen=True)
class Preset:
    """What a library says of named weights: their name, their licence, and the transform that they take."""

    weights: str
    licence: str
    transform: Transform


def outline(module: nn.Module) -> Any:
    """Returns a copy of a module on the meta device, without memory: it computes shapes only."""
    buffers = {id(one): one.to("meta") for one in module.buffers()}
    parameters = {id(one): nn.Parameter(one.to("meta"), requires_grad=False) for one in module.parameters()}
    return copy.deepcopy(module, {**buffers, **parameters})


def wrong_size(name: str, side: int, own: int) -> ConfigError:
    """Returns the error of a network that does not take images of a side; `own` is that of its weights."""
    return ConfigError(f"model.resolution={side}: {name} does not take that size. That of its weights is {own}.")


class Architecture(Protocol):
    """One network of a library."""

    name: str

    def named_weights(self) -> list[str]:
        """Returns the names that `model.weights` may have, beside `imagenet` and `random`."""

    def preset(self, weights: str) -> Preset:
        """Returns what the library says of named weights, or of those that it recommends for any other value."""

    def create(self, side: int) -> nn.Module:
        """Returns the network for images of that side without its classifying layer where it can be built so.

        Its weights are random, or without memory on the meta device.

        Raises:
            ConfigError: It takes images of another size only.
        """

    def create_random(self, side: int) -> nn.Module:
        """Returns the same with random weights in memory, drawn from torch's generator."""

    def classifier(self, model: nn.Module) -> tuple[str, ...]:
        """Returns how names begin in a state dict that belong to the layer which the new head replaces."""

    def stages(self, model: nn.Module, pool: str, side: int) -> nn.Sequential:
        """Returns a network without its classifying layer as named stages.

        Raises:
            ConfigError: The network does not have that pooling.
        """

    def download(self, weights: str) -> State:
        """Returns named weights; raises anything where that fails."""

    def source(self, weights: str) -> tuple[str, str]:
        """Returns where named weights come from and where they may be put by hand, or an empty text."""

    def adapted(self, state: State, model: nn.Module) -> State:
        """Returns a state dict with the names and sizes of a network, where the library knows how."""

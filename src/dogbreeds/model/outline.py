"""Outlines of networks: the same modules without memory, which compute shapes only."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn


def outline(module: nn.Module) -> Any:
    """Returns a copy of a module on the meta device."""
    buffers = {id(one): one.to("meta") for one in module.buffers()}
    parameters = {id(one): nn.Parameter(one.to("meta"), requires_grad=False) for one in module.parameters()}
    return copy.deepcopy(module, {**buffers, **parameters})

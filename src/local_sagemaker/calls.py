"""What operations get and answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    """A request that has passed the service model."""

    region: str
    body: Mapping[str, Any]


Operation = Callable[[Call], Mapping[str, Any]]

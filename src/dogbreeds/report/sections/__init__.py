"""The sections of a run's page: each turns a run into charts, tables and words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Section:
    """A section of the page: the name of its template in `templates/sections/`, and what this is filled with.

    `missing` says why there is nothing to show; the end of the page lists such sections.
    """

    name: str
    title: str
    content: Mapping[str, Any] = field(default_factory=dict)
    missing: str = ""

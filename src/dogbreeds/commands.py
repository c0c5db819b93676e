"""Commands as a person can paste them: what a program advises to type must work as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

# What neither Hydra's override grammar nor a shell takes for anything else.
_PLAIN = re.compile(r"[\w./:+-]+")


def override(name: str, value: str | Path) -> str:
    """Returns `name=value`, quoted for Hydra and for the shell where the value needs it."""
    text = str(value)
    if _PLAIN.fullmatch(text):
        return f"{name}={text}"
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return shlex.quote(f"{name}='{escaped}'")

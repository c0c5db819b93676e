"""Commands as a person can paste them, and values in Hydra's grammar: both must be read as they were meant."""

import math
import os
import re
import shlex
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString

# What neither Hydra's override grammar nor a shell takes for anything else.
_PLAIN = re.compile(r"[\w./:+-]+")
# Texts that Hydra reads as themselves, but for the words that it has a meaning for.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_WORDS = ("true", "false", "null", "inf", "nan")
_INTERPOLATION = re.compile(r"(\\*)\$\{")
# What a key of a dictionary may have, not beginning like a number, and what needs a backslash there.
_KEY = re.compile(r"[A-Za-z_/$@][\w/\\+.$%*@?|()\[\]{}:=, -]*(?<! )", re.ASCII)
_ESCAPED = re.compile(r"[\\()\[\]{}:=, ]")


def name_of(override: str) -> str:
    """Returns the setting or group that an override is of: `data.dir` for `+data.dir=photos` and `~data.dir`."""
    return override.partition("=")[0].lstrip("+~")


def sets(override: str, *names: str) -> bool:
    """Whether an override is of one of these settings or groups, or something in them, as `hpo.trials=3` of `hpo`."""
    own = name_of(override)
    return any(own == name or own.startswith((f"{name}.", f"{name}/")) for name in names)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the settings of a config by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def override(name: str, value: str | Path) -> str:
    """Returns `name=value`, quoted for Hydra and for the shell where the value needs it."""
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return f"{name}={text}"
    return shlex.quote(f"{name}={QuotedString(literal(text), Quote.double).with_quotes()}")


def hydra_value(value: object) -> str:
    """Returns a value in Hydra's override grammar, which reads the same value, of the same type, from it.

    Raises:
        ValueError: A number is not finite, or Hydra cannot read a key of a dictionary as text.
        TypeError: It is not None, a bool, a number, a text, or a list or dictionary of such.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Real):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no finite number")
        return str(value)
    if isinstance(value, str):
        return value if _NAME.fullmatch(value) and value.lower() not in _WORDS else quoted(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(hydra_value, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{hydra_key(key)}:{hydra_value(one)}' for key, one in value.items())}}}"
    raise TypeError(f"{value!r} cannot stand in an override")


def hydra_key(key: object) -> str:
    """Returns a key of a dictionary in Hydra's override grammar.

    Raises:
        ValueError: The grammar has no way to write it.
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key) or key.lower() in _WORDS:
        raise ValueError(f"{key!r} cannot be typed as a name in a table")
    return _ESCAPED.sub(r"\\\g<0>", key)


def literal(value: Any) -> Any:
    """Returns a value of which OmegaConf makes the same again: it would look up what stands in ${}."""
    if isinstance(value, dict):
        return {key: literal(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [literal(one) for one in value]
    return _INTERPOLATION.sub(lambda found: found[1] * 2 + "\\${", value) if isinstance(value, str) else value


def quoted(text: str, *, literally: bool = True) -> str:
    """Returns a text in quotes for Hydra; unless it is meant literally, what stands in ${} is looked up."""
    return QuotedString(literal(text) if literally else text, Quote.single).with_quotes()


def paths_in(text: str) -> list[str]:
    """Returns the paths in a list with commas, which a path may have too: the longest that exist."""
    parts, found = text.split(","), []
    while parts:
        longest = (",".join(parts[:size]) for size in range(len(parts), 0, -1))
        found.append(next((path for path in longest if os.path.lexists(path)), parts[0].strip()))
        del parts[: found[-1].count(",") + 1]
    return found


def value_of(text: str) -> Any:
    """Returns what Hydra reads in a value that stands in an override."""
    return OverridesParser.create().parse_override(f"value={text}").value()

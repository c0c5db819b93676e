"""A command line as people type it, in Hydra's grammar: the name of a file is taken literally, whatever is in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Sweep
from hydra.errors import HydraException
from omegaconf import OmegaConf

from dogbreeds.errors import ConfigError
from dogbreeds.overrides import hydra_key, paths_in, quoted

_INTERPOLATED = re.compile(r"\$\{([\w.]*)(:?)")
_PAIR = re.compile(r"\s*(\"[^\"]*\"|'[^']*'|[^:]*):?(.*)", re.DOTALL)
_BRACKETS, _QUOTES = ("()", "[]", "{}"), "'\""


@dataclass(frozen=True)
class Reader:
    """Reads settings as their types suggest.

    A text is what was typed. Quotes around all of it, `null`, sweeps and interpolations of what there is keep their
    meaning, unless a file is called just so.

    Attributes:
        types: Those of the settings, by dotted names.
        searchable: The settings and groups that can have several values with -m.
    """

    types: Mapping[str, Any]
    searchable: Sequence[str]

    def read(self, argument: str, *, several: bool) -> str:
        """Returns one setting in Hydra's grammar.

        Args:
            argument: `name=value`, quoted for the shell alone or for Hydra too.
            several: -m was typed.

        Raises:
            ConfigError: It is no setting, or has several values without -m.
        """
        typed, equals, text = argument.partition("=")
        try:
            typed, text = self._read(typed, text, several=several)
        except ValueError as error:
            raise ConfigError(f"{argument}: {error}.") from error
        found = _parsed(f"{typed}{equals}{text}") or _parsed(f"{typed}{equals}{quoted(text)}")
        if found is None or not (equals or found.is_delete()):
            raise ConfigError(f"{argument}: settings are typed as key=value, such as lr=0.01.")
        if found.is_sweep_override() and not several:
            said = " and there is no file of that name" if "/" in text else ""
            hint = "; add -m to try several" if self.searchable else ""
            raise ConfigError(f"{argument}: this takes one value{said}{hint}.")
        return str(found.input_line)

    def _read(self, typed: str, text: str, *, several: bool) -> tuple[str, str]:
        """Returns the name and the value to give to Hydra."""
        name = typed.lstrip("+")
        declared = self.types.get(name)
        kinds = [one for one in get_args(declared) if one is not NoneType]
        kind = kinds[0] if isinstance(declared, UnionType) else declared
        tables = [one for one, other in self.types.items() if other == dict[str, str] and name.startswith(f"{one}.")]
        if tables:
            # Its keys may be what no setting's name can be.
            return tables[0], f"{{{hydra_key(name[len(tables[0]) + 1 :])}:{self._text(text)}}}"
        if kind is str:
            return typed, self._text(text, several=name in self.searchable)
        if get_origin(kind) is list:
            return typed, self._list(text, get_args(kind)[0], several=several)
        if get_origin(kind) is dict and text.startswith("{") and text.endswith("}"):
            return name, self._table(text, get_args(kind)[1])
        return typed, text

    def _text(self, text: str, *, several: bool = False) -> str:
        text = text if os.path.lexists(text) else os.path.expanduser(text)  # noqa: PTH111
        found, exists = _parsed(f"value={text}"), os.path.lexists(text) and text.lower() != "null"
        value = found.value() if found else None
        if not exists:
            is_quoted = isinstance(value, str) and text[:1] in ("'", '"')
            if found and (value is None or is_quoted):
                return text
            if several and isinstance(value, Sweep) and not getattr(value, "simple_form", False):
                return text
            if several and len(pieces := paths_in(text)) > 1:
                return ",".join(map(self._text, pieces))
        if value == text and "${" not in text:
            return text
        names = _INTERPOLATED.findall(text)
        known = all(OmegaConf.has_resolver(one) if colon else one in self.types for one, colon in names)
        return quoted(text, literally=exists or not names or not known)

    def _list(self, text: str, kind: type, *, several: bool) -> str:
        bracketed, found = text.startswith("["), _parsed(f"value={text}")
        if found and (bracketed or found.value() is None or (several and kind is not str)):
            return text
        pieces = paths_in(text[1:-1] if bracketed and text.endswith("]") else text)
        return f"[{','.join(self._text(one) if kind is str else one for one in pieces)}]"

    def _table(self, text: str, kind: Any) -> str:
        found = _parsed(f"value={text}")
        table = found.value() if found else None
        if kind is not str and isinstance(table, dict) and not any(isinstance(one, Sweep) for one in table.values()):
            return text
        pairs: list[str] = []
        for piece in text[1:-1].split(","):
            inside = pairs and any(pairs[-1].count(one[0]) > pairs[-1].count(one[1]) for one in _BRACKETS)
            if inside or (pairs and ":" not in piece):
                pairs[-1] += f",{piece}"
            elif piece:
                pairs.append(piece)
        return f"{{{','.join(self._pair(pair, kind) for pair in pairs)}}}"

    def _pair(self, text: str, kind: Any) -> str:
        key, value = (part.strip() for part in _PAIR.findall(text)[0])
        found = _parsed(f"value={value}")
        if kind is str:
            value = self._text(value)
        elif found is None or found.is_sweep_override():
            value = quoted(value)
        return f"{hydra_key(key.strip(_QUOTES))}:{value}"


def _parsed(argument: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None

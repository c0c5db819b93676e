"""A command line as people type it becomes one that Hydra takes.

The name of a file is taken literally, whatever is in it, and `best_of` stands for the values of a search.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep, Sweep
from hydra.errors import HydraException
from omegaconf import OmegaConf

from dogbreeds.command_schemas import SCHEMAS
from dogbreeds.composing import register
from dogbreeds.errors import ConfigError
from dogbreeds.files import yaml_beside
from dogbreeds.help_page import groups
from dogbreeds.overrides import hydra_key, name_of, paths_in, quoted, sets, value_of
from dogbreeds.schema import key_types

_INTERPOLATED = re.compile(r"\$\{([\w.]*)(:?)")
_AROUND = " \"'"
# A key, quoted or not, and its value: commas belong to it inside brackets, and where no other key follows.
_PAIR = re.compile(
    r"""((?:"[^"]*"|'[^']*'|[^:"'])+):((?:\([^()]*\)|\[[^]]*\]|\{[^{}]*\}|,(?![^,]*:)|[^,])*),?""", re.DOTALL
)
_OPTIONS: Mapping[str, list[str]] = yaml_beside(__file__, "hydra_options.yaml")
_INFO = ("--info", "-i")
# Hydra's own settings that are paths, and what it or safetensors cannot have in them.
_PLACES = {"hydra.run.dir": str, "hydra.sweep.dir": str}
_UNWRITABLE = re.compile(r"\\\$\{|[\ud800-\udfff]")


def arranged(arguments: Sequence[str], name: str = "train", *, several: bool = False) -> list[str]:
    """Returns a command line as Hydra takes it: settings, then options, with what `best_of` stands for in its place.

    Settings that were typed win over those of `best_of`. They may have several values with -m, or where `several`
    says so.
    """
    from dogbreeds.hpo.settings import searchable

    register("train", name)
    rest, options = _split(arguments)
    schema = SCHEMAS.get(name)
    types = key_types(schema) if schema else {}
    reader = Reader(types | _PLACES, searchable() if "best_of" in types else (), groups(name) if schema else {})
    several = several or any(one in ("--multirun", "-m") for one in options)
    rest = [reader.read(argument, several=several) for argument in rest]
    typed = {name_of(argument): argument for argument in rest}
    for one in (name for name in typed if name in reader.types):
        if one.endswith("dir") and value_of(typed[one].partition("=")[2]) in ("", None):
            raise ConfigError(f"{typed[one]}: name a directory.")
        if one in _PLACES and _UNWRITABLE.search(typed[one]):
            raise ConfigError(f"{one}: choose a directory whose name is UTF-8 and has no ${{ in it.")
    other, wanted = _PLACES if several else reversed(_PLACES)
    if wanted not in typed and (place := typed.get(other)):
        said = f"{place} has no effect {'with' if several else 'without'} -m"
        raise ConfigError(f"{said}; use {wanted}={place.partition('=')[2]}.")
    followed = [typed[one] for one in ("attach", "stop") if one in typed]
    if followed and (several or len(followed) > 1):
        raise ConfigError(f"{' '.join(followed)}: type {followed[0]} alone, without -m.")
    found = OmegaConf.create({"place": value_of(typed.get("best_of", "").partition("=")[2])})
    if not found.place:
        return [*rest, *options]

    from dogbreeds.hpo.leaderboard import best_overrides

    if "resume" in typed:
        both = "best_of starts a run with the best values of a search, and resume continues one"
        raise ConfigError(f"{both}: leave one out.")
    best = [override for override in best_overrides(Path(str(found.place))) if name_of(override) not in typed]
    position = rest.index(typed["best_of"])
    return [*rest[:position], *best, *rest[position:], *options]


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the settings of a command line, and Hydra's options with their values; argparse mixes the two up."""
    rest: list[str] = []
    options: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name = argument.partition("=")[0]
        if not argument.startswith("-"):
            rest.append(argument)
        elif name in _OPTIONS["value"] or (name in _INFO and waiting[:1] and waiting[0] in _OPTIONS["kind"]):
            options += [argument, *(waiting[:1] if name == argument else ())]
            del waiting[: name == argument]
        elif name in (*_OPTIONS["nothing"], *_INFO):
            if argument not in options:
                options.append(argument)
        else:
            plain = argument.lstrip("-")
            example = plain if plain.partition("=")[2] else f"{plain.rstrip('=')}=<value>"
            raise ConfigError(f"{argument}: settings are typed as key=value, without dashes: {example}")
    return rest, options


@dataclass(frozen=True)
class Reader:
    """Reads settings as their types suggest; those that are `searchable` can have several values with -m.

    A text is what was typed. Quotes around all of it, `null`, sweeps and interpolations of what there is keep their
    meaning, unless a file is called just so. A plus sign before what there is means nothing.
    """

    types: Mapping[str, Any]
    searchable: Sequence[str]
    groups: Mapping[str, Sequence[str]]

    def read(self, argument: str, *, several: bool) -> str:
        """Returns `name=value`, quoted for the shell alone or for Hydra too, in Hydra's grammar.

        Raises:
            ConfigError: It is no setting, or it has several values, which -m allows.
        """
        typed, equals, text = argument.partition("=")
        name = typed.lstrip("+")
        if any(one == name or sets(one, name.rpartition(".")[0]) for one in (*self.types, *self.groups)):
            typed = name
        try:
            typed, text = self._read(typed, text)
        except ValueError as error:
            raise ConfigError(f"{argument}: {error}.") from error
        tried = (f"{typed}{equals}{one}" for one in (text, quoted(text)) if typed.lstrip("+~"))
        found = next(filter(None, map(_parsed, tried)), None)
        if found is None or not (equals or found.is_delete()):
            raise ConfigError(f"{argument}: settings are typed as key=value, such as lr=0.01.")
        if found.is_sweep_override() and not several:
            raise ConfigError(f"{argument}: several values need -m, and no file is called so.")
        value = found.value()
        options = value.list if isinstance(value, ChoiceSweep) else [value]
        merged = isinstance(value, list) and any(sets(one, name) for one in self.types if one != name)
        if name in self.groups and (merged or any(isinstance(one, int | float | RangeSweep | None) for one in options)):
            raise ConfigError(f"{argument}: must be one of {', '.join(self.groups[name])}, or left out.")
        return str(found.input_line)

    def _read(self, typed: str, text: str) -> tuple[str, str]:
        name = typed.lstrip("+")
        declared = self.types.get(name)
        kind = next((one for one in get_args(declared) if one is not NoneType), None)
        kind = kind if isinstance(declared, UnionType) else declared
        tables = [one for one, other in self.types.items() if other == dict[str, str] and name.startswith(f"{one}.")]
        if tables:
            # Its keys may be what no setting's name can be.
            value = self._text(text) if text else quoted(text)
            return tables[0], f"{{{hydra_key(name[len(tables[0]) + 1 :])}:{value}}}"
        if kind is str:
            return typed, self._text(text, several=name in self.searchable)
        if get_origin(kind) is list:
            return typed, self._list(text, get_args(kind)[0])
        if get_origin(kind) is dict and (pairs := _PAIR.findall(text[1:-1])) and text[0] + text[-1] == "{}":
            read = self._text if get_args(kind)[1] is str else _element
            table = ",".join(f"{hydra_key(key.strip(_AROUND))}:{read(value.strip())}" for key, value in pairs)
            return name, f"{{{table}}}"
        return typed, text

    def _text(self, text: str, *, several: bool = False) -> str:
        text = text if os.path.lexists(text) else os.path.expanduser(text)  # noqa: PTH111
        found, exists = _parsed(f"value={text}"), os.path.lexists(text)
        value = found.value() if found else None
        if not exists:
            if found and (_keeps_meaning(found) or (isinstance(value, str) and text[:1] in ("'", '"'))):
                return text
            if several and len(pieces := paths_in(text)) > 1:
                return ",".join(map(self._text, pieces))
        if value == text and "${" not in text:
            return text
        names = _INTERPOLATED.findall(text)
        known = all(OmegaConf.has_resolver(one) if colon else one in self.types for one, colon in names)
        return quoted(text, literally=exists or not names or not known)

    def _list(self, text: str, kind: type) -> str:
        found = _parsed(f"value={text}")
        if found and (text.startswith("[") or _keeps_meaning(found)):
            return text
        pieces = paths_in(text.removeprefix("[").removesuffix("]") if text.startswith("[") else text)
        return f"[{','.join(map(self._text, pieces) if kind is str else pieces)}]"


def _element(text: str) -> str:
    found = _parsed(f"value={text}")
    return quoted(text) if found is None or found.is_sweep_override() else text


def _keeps_meaning(found: Override) -> bool:
    """Says whether Hydra reads null, or a sweep that is spelled out, in a value."""
    value = found.value()
    return value is None or (isinstance(value, Sweep) and not getattr(value, "simple_form", False))


def _parsed(argument: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None

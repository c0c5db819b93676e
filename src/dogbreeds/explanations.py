"""What Hydra and OmegaConf refuse, in the words of settings: what is wrong, and what to type instead."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from hydra.errors import MissingConfigException
from yaml import MarkedYAMLError

from dogbreeds.command_schemas import SCHEMAS
from dogbreeds.constraints import settings
from dogbreeds.errors import did_you_mean
from dogbreeds.installation import command
from dogbreeds.overrides import sets
from dogbreeds.schema import key_types

_UNKNOWN_KEY = re.compile(r"(?:[Kk]ey|override) '(?P<key>[^']+)'(?: (?:is )?not in|\. No match in)")
_FULL_KEY = re.compile(r"full_key: ([\w.]+)")
_FILE = re.compile(r"^In '(.+)': \w+ raised while composing", re.MULTILINE)
_CHOICES = re.compile(r"Could not find '(?P<typed>.*)'\s+Available options in '(?P<group>.*)':")
_ADVICE = ("full_key:", "reference_type=", "object_type=")
_VALUE = re.compile(r"[Vv]alue:? '?(.*?)'?(?: of type|$)", re.MULTILINE)


def explained(error: Exception, schema: type | None, known: Mapping[str, str], given: Callable[[str], Any]) -> str:
    """Returns what an error says without its advice for programmers, with names that exist and values that fit.

    `known` has the settings that there are, each in words; `given` returns what was typed for one, or None.
    """
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        return f"{error.problem_mark.name}, line {error.problem_mark.line + 1}: {error.problem}."
    whole, cause = str(error), error.__cause__
    while cause is not None:
        whole, cause = whole if str(cause) in whole else f"{whole}\n{cause}", cause.__cause__
    full, composed = _FULL_KEY.search(whole), _FILE.search(whole)
    file = f"{composed[1]}.yaml: " if composed else ""
    if isinstance(error, MissingConfigException) and (found := _CHOICES.search(whole)):
        group, options = found["group"], error.options or ()
        choice, place = found["typed"].removeprefix(f"{group}/"), f"{group}.dir"
        meant = f"Did you mean {place}={choice}?" * bool(choice and place in known)
        hint = meant if "/" in choice else did_you_mean(choice, options) or meant
        return f"{group}={choice}: must be one of {', '.join(options)}. {hint}".rstrip()
    if unknown := _UNKNOWN_KEY.search(whole):
        key = full[1] if full else unknown["key"]
        if file.startswith(f"{key}/"):
            return f"{file}a line '# @package _global_' has to stand above its settings."
        return f"{file}Unknown setting '{key}'. {_meant(key, known)}Settings are: {', '.join(known)}."
    if full and schema:
        key, value = full[1], given(full[1])
        shown = f"{file}{key}={found[1] if value is None and (found := _VALUE.search(whole)) else value}"
        if setting := next((one for one in settings(schema) if one.name == key), None):
            return f"{shown}: must be {setting.expected}."
        if own := [f"{name}=<value>" for name in known if sets(name, key)]:
            return f"{shown}: it has settings of its own: {', '.join(own)}."
    lines = whole.partition("\nConfig search path:")[0].splitlines()
    return "\n".join(line for line in lines if line.strip() and not line.strip().startswith(_ADVICE))


def _meant(key: str, known: Mapping[str, str]) -> str:
    """Returns which setting is spelled or described like an unknown one, or which commands have it."""
    if near := did_you_mean(key, known):
        return near
    if others := [command(name) for name, other in SCHEMAS.items() if any(sets(one, key) for one in key_types(other))]:
        return f"It is one of {', '.join(others)}. "
    described = [name for name, said in known.items() if "_" in key and key.replace("_", " ") in said]
    return f"Did you mean {described[0]}? " if described else ""

"""Checks requests against AWS's service model, of which botocore has a copy.

Botocore itself checks types, required members and minimum lengths. The same files have enums, patterns and maxima,
so that a request can be checked completely before it is sent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from botocore.model import ServiceModel, Shape

# Python's types for those of the service model, and how messages name them.
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "structure": ((Mapping,), "an object"),
    "map": ((Mapping,), "an object"),
    "list": ((list, tuple), "a list"),
    "string": ((str,), "text"),
    "boolean": ((bool,), "true or false"),
    "integer": ((int,), "a whole number"),
    "long": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "double": ((int, float), "a number"),
    "timestamp": ((datetime, int, float, str), "a time"),
    "blob": ((bytes, bytearray, str), "bytes"),
}
_NUMBERS = ("integer", "long", "float", "double")
# What parts of the patterns, which are written for Java, are in Python.
_TRANSLATIONS: Mapping[str, str] = yaml.safe_load(Path(__file__).with_name("patterns.yaml").read_bytes())
# A misprint of `{1,128}` in the files: nothing can follow the end of a text.
_MISPRINT = re.compile(r"\*\)\$\{(\d+),(\d+)\}$")


@dataclass(frozen=True)
class Problem:
    """A fault of a request.

    The message completes a sentence that starts with the path, such as
    `AlgorithmSpecification.MetricDefinitions[0].Regex` or `HyperParameters[model.name]`; empty for the whole request.
    """

    path: str
    message: str


def problems(operation: str, request: Mapping[str, object], service: str = "sagemaker") -> list[Problem]:
    """Returns what the service would refuse of a request, in its order; `jobs` has the rules between several members.

    The request of an operation such as `CreateTrainingJob` is the arguments of boto3, or the body of an HTTP request,
    where times are numbers. Raises a KeyError where the service has no such operation.
    """
    if operation not in operations(service):
        raise KeyError(f"{service} has no operation {operation}")
    shape = _service_model(service).operation_model(operation).input_shape
    return [] if shape is None else list(_walk(shape, request, ""))


def operations(service: str = "sagemaker") -> Sequence[str]:
    return list(_service_model(service).operation_names)


@cache
def _service_model(service: str) -> ServiceModel:
    from botocore.session import Session

    return Session().get_service_model(service)


def _walk(shape: Shape, value: Any, path: str) -> Iterator[Problem]:
    kind = shape.type_name
    types, word = _TYPES[kind]
    fits = isinstance(value, types) and not (kind in _NUMBERS and isinstance(value, bool))
    if not fits:
        yield Problem(path, f"must be {word}, got {_shown(value)}")
    elif kind == "structure":
        yield from _structure(shape, value, path)
    elif kind == "map":
        yield from _range(shape, len(value), path, "entries")
        for key, element in value.items():
            yield from _walk(shape.key, key, f"{path}[{key}]")
            yield from _walk(shape.value, element, f"{path}[{key}]")
    elif kind == "list":
        yield from _range(shape, len(value), path, "elements")
        for position, element in enumerate(value):
            yield from _walk(shape.member, element, f"{path}[{position}]")
    elif kind == "string":
        yield from _text(shape, value, path)
    elif kind in _NUMBERS:
        yield from _range(shape, value, path)


def _structure(shape: Shape, value: Mapping[str, Any], path: str) -> Iterator[Problem]:
    def below(name: str) -> str:
        return f"{path}.{name}" if path else name

    for name in shape.required_members:
        if name not in value:
            yield Problem(below(name), "is missing")
    if shape.metadata.get("union") and len(value) != 1:
        yield Problem(path, f"must have exactly one of {', '.join(shape.members)}, got {len(value)}")
    for name, element in value.items():
        if name in shape.members:
            yield from _walk(shape.members[name], element, below(name))
        else:
            yield Problem(below(name), "is not known to the service")


def _text(shape: Shape, value: str, path: str) -> Iterator[Problem]:
    if shape.enum:
        if value not in shape.enum:
            yield Problem(path, f"must be one of {', '.join(shape.enum)}, got {_shown(value)}")
        return
    wrong_size = list(_range(shape, len(value), path, "characters"))
    yield from wrong_size
    pattern = shape.metadata.get("pattern")
    if pattern and not wrong_size and not readable(pattern).fullmatch(value):
        yield Problem(path, f"must match {pattern}, got {_shown(value)}")


def _range(shape: Shape, value: float, path: str, unit: str = "") -> Iterator[Problem]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    verb, unit = ("have", f" {unit}") if unit else ("be", "")
    if least is not None and value < least:
        yield Problem(path, f"must {verb} at least {least}{unit}, got {value}")
    if most is not None and value > most:
        yield Problem(path, f"must {verb} at most {most}{unit}, got {value}")


@cache
def readable(pattern: str) -> re.Pattern[str]:
    """Translates a pattern of the service model to Python; it must match whole texts."""
    for java, python in _TRANSLATIONS.items():
        pattern = pattern.replace(java, python)
    return re.compile(_MISPRINT.sub(r"){\1,\2}", pattern))


def repeated(path: str, names: Iterable[str]) -> Iterator[Problem]:
    """Yields those names that appear more than once."""
    for name, count in Counter(names).items():
        if count > 1:
            yield Problem(path, f"names must be unique: {name!r} appears {count} times")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

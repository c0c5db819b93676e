"""What a setting may be, beside its type in schema.py, and the one function that checks all of them."""

import math
import re
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, partial
from operator import attrgetter
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints


class OneOf:
    """One of several words."""

    def __init__(self, *values: str) -> None:
        self.values = values

    def allows(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return f"one of {', '.join(self.values)}"


@dataclass(frozen=True)
class Range:
    """A finite number from `low` to `high`; with `above` or `below` that end itself is too small or too large."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def allows(self, value: Any) -> bool:
        over = self.low < value if self.above else self.low <= value
        under = value < self.high if self.below or math.isinf(self.high) else value <= self.high
        return bool(over and under)

    def __str__(self) -> str:
        if not (self.above or self.below or math.isinf(self.high)):
            return f"between {self.low} and {self.high}"
        low = f"{'above' if self.above else 'at least'} {self.low}"
        return low if math.isinf(self.high) else f"{low} and {'below' if self.below else 'at most'} {self.high}"


@dataclass(frozen=True)
class Matches:
    """A text that a regular expression matches as a whole; `words` say what it is."""

    pattern: str
    words: str

    def allows(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.words


#: What stands beside a type in `Annotated`; as a string it completes "must be ...".
Constraint = OneOf | Range | Matches

one_of = OneOf
#: Numbers from one on.
at_least = Range
#: Numbers greater than one.
above = partial(Range, above=True)


@dataclass(frozen=True)
class Setting:
    """One setting of a schema: its dotted name, its type without `Annotated`, and what stands beside that."""

    name: str
    type: Any
    constraint: Constraint | None

    @property
    def expected(self) -> str:
        """What its type takes, in words."""
        kinds = [kind for kind in get_args(self.type) if kind is not NoneType]
        optional = isinstance(self.type, UnionType)
        kind = kinds[0] if optional else self.type
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "a single value"}.get(kind)
        if words is None:
            numbers = " of whole numbers" if kind == list[int] else ""
            words = f"a list{numbers}" if get_origin(kind) is list else "a table such as {name: value}"
        return f"{words} or null" if optional else words


@cache
def settings(schema: type) -> tuple[Setting, ...]:
    """Returns all settings of a dataclass, those of nested ones under dotted names."""
    found: list[Setting] = []
    hints = get_type_hints(schema, include_extras=True)
    for field in fields(schema):
        hint = hints[field.name]
        kind, *constraints = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if is_dataclass(kind) and isinstance(kind, type):
            nested = settings(kind)
            found += [Setting(f"{field.name}.{one.name}", one.type, one.constraint) for one in nested]
        else:
            found.append(Setting(field.name, kind, next(iter(constraints), None)))
    return tuple(found)


def problems(config: object, prefix: str = "") -> list[str]:
    """Returns a line for each setting that has a value which it may not have."""
    found = []
    schema: type = type(config)
    for setting in settings(schema):
        value = attrgetter(setting.name)(config)
        if setting.constraint is not None and value is not None and not setting.constraint.allows(value):
            finite = " and finite" if isinstance(value, float) and not math.isfinite(value) else ""
            found.append(f"{prefix}{setting.name}={value}: must be {setting.constraint}{finite}.")
    return found

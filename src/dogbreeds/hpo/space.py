"""The space of a search: conf/hpo and the command line, parsed into intervals and choices.

Both are written in Hydra's override grammar and parsed by Hydra's parser.
"""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep, Sweep, Transformer
from hydra.errors import HydraException

from dogbreeds.errors import ConfigError, did_you_mean
from dogbreeds.overrides import value_of

_TAGS = ("linear", "log")
_ORDERED = "ordered"
_SPACE = "hpo.space."
#: Names that begin like this are the same for all trials: where they are written, what they share and
#: leave out, what watches them.
NOT_SEARCHABLE = (
    "hpo", "resume", "best_of", "run_dir", "cache.", "trainer", "logger", "callbacks", "debugger", "profiler",
    "data.exclude", "data.labels", "paths", "sagemaker", "attach", "stop",
)  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    #: How values are spread: `linear`, `log`, or `auto`, which leaves it to the strategy.
    scale: str
    integer: bool

    @property
    def size(self) -> float:
        return self.high - self.low + 1 if self.integer else math.inf

    @property
    def points(self) -> list[float | str]:
        """All numbers of an interval of whole ones."""
        return list(range(int(self.low), int(self.high) + 1))

    @property
    def ends(self) -> list[float | str]:
        """What a search has to be possible with: both ends, or every choice."""
        return [self.low, self.high]

    def text(self, value: float | str) -> str:
        """Returns a value as it is written in an override."""
        return str(int(value)) if self.integer else repr(float(value))


@dataclass(frozen=True)
class Choice:
    """Some values, as they are written in an override; `ordered` if neighbours are similar."""

    values: tuple[str, ...]
    ordered: bool

    @property
    def size(self) -> float:
        return len(self.values)

    @property
    def points(self) -> list[float | str]:
        return list(self.values)

    ends = points

    def text(self, value: float | str) -> str:
        return str(value)


Dimension = Interval | Choice
#: One value for some dimensions, by name: a number in an interval, the text of a choice.
Values = Mapping[str, float | str]


@dataclass(frozen=True)
class Space:
    """What a search varies, by setting or config group, and the overrides, as they were typed, of all trials."""

    dimensions: dict[str, Dimension]
    fixed: tuple[str, ...]

    def overrides(self, values: Values) -> list[str]:
        """Returns one value for each dimension as overrides, without the fixed ones."""
        return [f"{name}={dimension.text(values[name])}" for name, dimension in self.dimensions.items()]

    @property
    def size(self) -> float:
        """The number of points; infinite if the space has an interval of real numbers."""
        return math.prod(dimension.size for dimension in self.dimensions.values())

    def combinations(self) -> Iterator[Values]:
        """Yields all points of a space of finite size."""
        for combination in itertools.product(*(dimension.points for dimension in self.dimensions.values())):
            yield dict(zip(self.dimensions, combination, strict=True))

    def within(self, values: Mapping[str, Any]) -> Values:
        """Returns the settings that lie in the space, as its values."""
        found: dict[str, float | str] = {}
        for name, dimension in self.dimensions.items():
            value = values.get(name)
            if isinstance(dimension, Choice):
                found.update((name, text) for text in dimension.values if value_of(text) == value)
            elif isinstance(value, int | float) and dimension.low <= value <= dimension.high:
                found[name] = value
        return found


def parse(
    configured: Mapping[str, Any], overrides: Sequence[str], known: Collection[str], loader: ConfigLoader | None = None
) -> Space:
    """Parses the sweeps of conf/hpo and of the command line; the command line wins.

    Args:
        configured: The section `hpo.space`: for each setting, a sweep or a single value.
        known: Settings and config groups that can be searched.
        loader: Hydra's config loader, which a glob over a config group needs.
    """
    parser = OverridesParser.create(loader)
    given = {_parsed(parser, text, text).key_or_group for text in overrides}
    # A null takes a setting of conf/hpo out of the space.
    searched = {name: value for name, value in configured.items() if value is not None and name not in given}
    written = {name: f"{name}={value}" for name, value in searched.items()}
    in_config = [(f"hpo.space.{name}: {configured[name]}", text) for name, text in written.items()]
    dimensions: dict[str, Dimension] = {}
    fixed: dict[str, str] = {}
    for shown, text in [*in_config, *((text, text) for text in overrides)]:
        override = _parsed(parser, text, shown)
        name = override.key_or_group
        if not override.is_sweep_override():
            # The last of several wins, as in Hydra.
            dimensions.pop(name, None)
            fixed[text if override.is_delete() else name] = text
            continue
        if name in dimensions:
            raise ConfigError(f"{shown}: {name} is given twice. Leave one out.")
        _check_name(name, shown, known)
        fixed.pop(name, None)
        dimensions[name] = _dimension(override, shown)
    return Space(dimensions, tuple(fixed.values()))


def _parsed(parser: OverridesParser, text: str, shown: str) -> Override:
    try:
        # parse_override does not pass the loader on, which globs need.
        return parser.parse_overrides([text])[0]
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{shown}: not in Hydra's override grammar ({reason}).") from error


def _check_name(name: str, text: str, known: Collection[str]) -> None:
    if name.startswith(_SPACE):
        raise ConfigError(f"{text}: on the command line write it without {_SPACE}")
    if name.startswith(NOT_SEARCHABLE):
        raise ConfigError(f"{text}: {name} cannot be searched.")
    if name not in known:
        hint, names = did_you_mean(name, sorted(known)), ", ".join(sorted(known))
        raise ConfigError(f"{text}: there is no setting '{name}' to search. {hint}Settings are: {names}.")


def _dimension(override: Override, text: str) -> Dimension:
    sweep = override.value()
    tags = set(getattr(sweep, "tags", None) or ())
    if isinstance(sweep, IntervalSweep):
        return _interval(sweep, tags, text)
    assert isinstance(sweep, ChoiceSweep | RangeSweep | Glob)
    _refuse_tags(tags, (_ORDERED,), text)
    if getattr(sweep, "shuffle", False):
        raise ConfigError(f"{text}: a search decides the order itself. Leave shuffle out.")
    if isinstance(sweep, RangeSweep) and (interval := _consecutive(sweep)):
        return interval
    if isinstance(sweep, ChoiceSweep) and any(isinstance(value, Sweep) for value in sweep.list):
        raise ConfigError(f"{text}: a value of a choice cannot be an interval or a range.")
    return _choice(override, text, ordered=isinstance(sweep, RangeSweep) or _ORDERED in tags)


def _consecutive(sweep: RangeSweep) -> Interval | None:
    """Returns a range of consecutive whole numbers as an interval; None for any other range."""
    if not (isinstance(sweep.start, int) and isinstance(sweep.stop, int) and sweep.step == 1):
        return None
    numbers = list(sweep.range())
    return Interval(numbers[0], numbers[-1], "auto", integer=True) if len(numbers) > 1 else None


def _choice(override: Override, text: str, *, ordered: bool) -> Choice:
    values = tuple(str(Transformer.str(value)) for value in override.sweep_iterator())
    if not values:
        raise ConfigError(f"{text}: there is nothing in it.")
    if duplicates := [value for value in values if values.count(value) > 1]:
        raise ConfigError(f"{text}: values must be unique, and {duplicates[0]} appears twice.")
    return Choice(values, ordered)


def _interval(sweep: IntervalSweep, tags: set[str], text: str) -> Interval:
    _refuse_tags(tags, _TAGS, text)
    if len(tags) > 1:
        raise ConfigError(f"{text}: an interval is either {' or '.join(_TAGS)}.")
    low, high = sweep.start, sweep.end
    assert low is not None and high is not None
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"{text}: both ends of an interval must be finite.")
    if low >= high:
        what = "empty" if low == high else "reversed"
        raise ConfigError(f"{text}: the interval is {what}. Write interval(smallest, largest).")
    scale = tags.pop() if tags else "auto"
    if scale == "log" and low <= 0:
        raise ConfigError(f"{text}: a log interval must start above 0.")
    # Hydra makes the ends of `int(interval(..))` int, and those of `interval(..)` float, however they are typed.
    return Interval(low, high, scale, integer=isinstance(low, int) and isinstance(high, int))


def _refuse_tags(tags: set[str], allowed: Sequence[str], text: str) -> None:
    if other := sorted(tags - set(allowed)):
        raise ConfigError(f"{text}: unknown tag '{other[0]}'. It may be {' or '.join(allowed)}.")

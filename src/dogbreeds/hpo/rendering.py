"""A space as Optuna and as SageMaker want it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dogbreeds.errors import ConfigError
from dogbreeds.hpo.space import Choice, Dimension, Interval, Space, Values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: What SageMaker's tuning jobs call the strategies of `hpo.strategy`.
STRATEGIES = {"bayes": "Bayesian", "random": "Random", "hyperband": "Hyperband", "grid": "Grid"}
# Limits of the service (CreateHyperParameterTuningJob).
_MOST_RANGES = 30
_MOST_VALUES = 30
_LONGEST_VALUE = 256
_SCALING = {"auto": "Auto", "linear": "Linear", "log": "Logarithmic"}


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Returns the space as Optuna's distributions.

    An interval without a tag is linear there, and an ordered choice is the position in it, so that neighbours are
    near each other; `decode` turns positions into values.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def of(dimension: Dimension) -> BaseDistribution:
        if isinstance(dimension, Choice):
            if dimension.ordered:
                return IntDistribution(0, len(dimension.values) - 1)
            return CategoricalDistribution(dimension.values)
        log = dimension.scale == "log"
        if dimension.integer:
            return IntDistribution(int(dimension.low), int(dimension.high), log=log)
        return FloatDistribution(dimension.low, dimension.high, log=log)

    return {name: of(dimension) for name, dimension in space.dimensions.items()}


def decode(space: Space, parameters: Mapping[str, Any]) -> Values:
    """Returns the values of a space that Optuna's parameters stand for."""

    def of(dimension: Dimension, parameter: Any) -> float | str:
        if isinstance(dimension, Choice):
            return dimension.values[parameter] if dimension.ordered else str(parameter)
        return int(parameter) if dimension.integer else float(parameter)

    return {name: of(space.dimensions[name], parameter) for name, parameter in parameters.items()}


def encode(space: Space, values: Values) -> dict[str, Any]:
    """Returns Optuna's parameters of some values, the reverse of `decode`."""

    def of(dimension: Dimension, value: float | str) -> Any:
        if isinstance(dimension, Choice) and dimension.ordered:
            return dimension.values.index(str(value))
        return value

    return {name: of(space.dimensions[name], value) for name, value in values.items()}


def parameter_ranges(space: Space, strategy: str) -> dict[str, list[dict[str, Any]]]:
    """Returns the space as `ParameterRanges` of a tuning job: all values are strings there.

    Args:
        space: What is searched.
        strategy: As the service calls it. Its Grid knows choices only, so whole numbers of an interval become one.

    Raises:
        ConfigError: The service would refuse it.
    """
    if strategy not in STRATEGIES.values():
        raise ValueError(f"{strategy!r} is none of {', '.join(STRATEGIES.values())}")
    if len(space.dimensions) > _MOST_RANGES:
        raise ConfigError(f"SageMaker varies {_MOST_RANGES} settings at most, not {len(space.dimensions)}.")
    ranges: dict[str, list[dict[str, Any]]] = {
        "ContinuousParameterRanges": [],
        "CategoricalParameterRanges": [],
        "IntegerParameterRanges": [],
    }
    for name, searched in space.dimensions.items():
        dimension = _listed(name, searched) if strategy == "Grid" else searched
        if isinstance(dimension, Choice):
            ranges["CategoricalParameterRanges"].append({"Name": name, "Values": _values(name, dimension)})
            continue
        if strategy == "Grid":
            raise ConfigError(f"{name}: SageMaker's Grid takes choices only, such as {name}=choice(1,2).")
        kind = "Integer" if dimension.integer else "Continuous"
        ranges[f"{kind}ParameterRanges"].append({"Name": name, **_ends(dimension)})
    return ranges


def _listed(name: str, dimension: Dimension) -> Dimension:
    if isinstance(dimension, Choice) or not dimension.integer:
        return dimension
    low, high = int(dimension.low), int(dimension.high)
    _refuse_many(name, high - low + 1)
    return Choice(tuple(str(number) for number in range(low, high + 1)), ordered=True)


def _refuse_many(name: str, count: int) -> None:
    if count > _MOST_VALUES:
        raise ConfigError(f"{name}: SageMaker takes {_MOST_VALUES} values at most, not {count}.")


def _values(name: str, choice: Choice) -> list[str]:
    _refuse_many(name, len(choice.values))
    long = [value for value in choice.values if len(value) > _LONGEST_VALUE]
    if long:
        raise ConfigError(f"{name}: SageMaker takes values of {_LONGEST_VALUE} characters at most: {long[0][:40]}...")
    return list(choice.values)


def _ends(interval: Interval) -> dict[str, str]:
    low, high = (str(int(end)) if interval.integer else repr(float(end)) for end in (interval.low, interval.high))
    return {"MinValue": low, "MaxValue": high, "ScalingType": _SCALING[interval.scale]}
